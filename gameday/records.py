"""What the clients saw, as they write it and as the judge reads it: requests, and the ledger of writes.

One request is one operation of a client with all its standard retries. Times are seconds of the machine's monotonic
clock (see `gameday.timeline`); `wall` is the wall clock at `started`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from gameday.timeline import JsonLines, read_json_lines

Outcome = Literal["ok", "error", "dropped", "unfinished"]
LedgerState = Literal["attempted", "acknowledged", "unknown", "rejected"]


@dataclass(frozen=True, slots=True)
class Request:
    """One operation of a client.

    intended    when the arrival schedule wanted it to start; latency counts from here, or a stall would hide itself
    started     when the first attempt was really sent
    ended       when the last attempt was answered, failed or was given up
    outcome     ok; error (after all standard retries); dropped (no room to send it, counts as an error);
                unfinished (still in flight when the load was stopped, counts as neither)
    attempts    number of attempts; attempt_errors holds one short text for each that failed, also where a retry helped
    replica     the pod that gave the last answer, as it named itself; None where nothing answered
    """

    engine: str
    operation: str
    intended: float
    started: float
    ended: float
    wall: float
    outcome: Outcome
    attempts: int = 1
    status: int | None = None
    error: str | None = None
    replica: str | None = None
    attempt_errors: list[str] = field(default_factory=list)

    @property
    def latency_s(self) -> float:
        """Seconds from the intended start to the end."""
        return self.ended - self.intended


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One step in the life of a write: it was attempted, then acknowledged, rejected, or its fate is unknown.

    item    identifier of the write (for MDS: the snapshot id, as text); place: where to find it (for MDS: the table)
    mono    when the step was known to the client
    """

    engine: str
    place: str
    item: str
    state: LedgerState
    mono: float
    wall: float


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What was found in one place when the ledger was read back after the recovery; `items` are identifiers as text.

    error is set, and items empty, where the place could not be read.
    """

    engine: str
    place: str
    items: list[str]
    mono: float
    wall: float
    error: str | None = None


class Recorder:
    """Appends requests and ledger entries of one process to files of its own in the run folder."""

    def __init__(self, folder: Path, process: str) -> None:
        """Open `requests-PROCESS.jsonl` and `ledger-PROCESS.jsonl` in `folder`; raises OSError where that fails."""
        self._requests = JsonLines(folder / f"requests-{process}.jsonl")
        self._ledger = JsonLines(folder / f"ledger-{process}.jsonl")

    def request(self, request: Request) -> None:
        """Write down one finished operation."""
        self._requests.append(asdict(request))

    def ledger(self, entry: LedgerEntry) -> None:
        """Write down one step of a write."""
        self._ledger.append(asdict(entry))

    def close(self) -> None:
        """Close both files."""
        self._requests.close()
        self._ledger.close()


def write_read_back(folder: Path, found: Iterable[ReadBack]) -> None:
    """Append what was read back to `readback.jsonl` in the run folder."""
    lines = JsonLines(folder / "readback.jsonl")
    for item in found:
        lines.append(asdict(item))
    lines.close()


def _read(folder: Path, pattern: str) -> list[dict[str, Any]]:
    return [line for path in sorted(folder.glob(pattern)) for line in read_json_lines(path)]


def read_requests(folder: Path) -> list[Request]:
    """Return all requests of all processes of a run, ordered by their intended start."""
    return sorted((Request(**line) for line in _read(folder, "requests-*.jsonl")), key=lambda item: item.intended)


def read_ledger(folder: Path) -> list[LedgerEntry]:
    """Return all ledger entries of a run, ordered by time."""
    return sorted((LedgerEntry(**line) for line in _read(folder, "ledger-*.jsonl")), key=lambda item: item.mono)


def read_read_back(folder: Path) -> list[ReadBack]:
    """Return what was read back, ordered by time."""
    return sorted((ReadBack(**line) for line in _read(folder, "readback.jsonl")), key=lambda item: item.mono)
