"""What every kind of backup has in common: what one is, how it is listed, taken and put to the proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

# A backup takes a while, and begins on the hour of its own clock: later than this it was not taken.
LATE_FACTOR = 1.5
# In place of the name of one.
NEWEST = "newest"


@dataclass(frozen=True)
class Backup:
    """One backup, as the store outside the cluster has it.

    `taken_wall` is the moment to which it restores, in seconds since the epoch; `problem` says why it cannot be
    restored from, as far as that is seen without restoring it, and is None where nothing is known against it.
    """

    name: str
    taken_wall: float
    size_bytes: int
    problem: str | None = None

    def age_s(self, wall: float) -> float:
        """Return how old it is at a moment."""
        return max(0.0, wall - self.taken_wall)


@dataclass(frozen=True)
class Verification:
    """What a restore of a backup into a scratch place showed.

    `compared` says what was compared, with numbers (`214 rows of 6 tables`); `problems` name what is missing, differs
    or cannot be read, and are empty where the backup holds what it should.
    """

    compared: str
    problems: tuple[str, ...]


class Kind(Protocol):
    """One kind of backup, with what it needs to reach its store."""

    @property
    def name(self) -> str:
        """Its name on the command line."""

    @property
    def actor(self) -> str:
        """Who takes it: `sre` or `customer`."""

    @property
    def every_s(self) -> float:
        """How often its schedule takes one, in seconds."""

    def backups(self) -> Sequence[Backup]:
        """Return all that the store has, oldest first; raises HarnessError where it cannot be read."""

    def take(self) -> Backup:
        """Take one now, as the schedule would, and return it; raises HarnessError where that fails."""

    def verify(self, backup: Backup, say: Callable[[str], None]) -> Verification:
        """Restore one into a scratch place, compare, and remove the place again; `say` is told what is being done.

        Raises HarnessError where the harness itself failed; a backup that cannot be restored is a problem of it.
        """


def pick(listed: Sequence[Backup], asked: str) -> Backup | None:
    """Return the backup of a name, or the `newest`, of those (oldest first) that can be restored from."""
    whole = [one for one in listed if one.problem is None]
    chosen = whole[-1:] if asked == NEWEST else [one for one in whole if one.name == asked]
    return chosen[0] if chosen else None


def too_old(newest: Backup | None, every_s: float, wall: float) -> str | None:
    """Tell that there is no backup as young as a schedule of `every_s` seconds asks for; None where there is."""
    if newest is None:
        return "there is no backup"
    allowed_s = LATE_FACTOR * every_s
    age_s = newest.age_s(wall)
    if age_s <= allowed_s:
        return None
    return f"the newest backup is {age_s:.0f} s old, and the schedule allows {allowed_s:.0f} s"
