"""Undo records: what heals a fault, on disk before it is injected, so that a dead run can be healed by another."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

from gameday.errors import UsageError
from gameday.regions import Region


@dataclass(frozen=True)
class Undo:
    """One fault that may be in effect: its name and id, its zones and nodes, and the run that injected it."""

    fault: str
    fault_id: str
    zones: list[str]
    nodes: list[str]
    run_folder: str
    wall: float


def remember(region: Region, undo: Undo) -> None:
    """Write a record; it is whole on disk when this returns."""
    region.undo_folder.mkdir(parents=True, exist_ok=True)
    path = region.undo_folder / f"{undo.fault_id}.json"
    scratch = path.with_suffix(".part")
    with scratch.open("w") as handle:
        json.dump(asdict(undo), handle)
        handle.flush()
        # a record in a lost page cache heals nothing
        os.fsync(handle.fileno())
    scratch.rename(path)


def outstanding(region: Region) -> list[Undo]:
    """Return the records of faults that were not healed yet, oldest first; raises UsageError for an unreadable one."""
    found = []
    for path in region.undo_folder.glob("*.json"):
        try:
            found.append(Undo(**json.loads(path.read_text())))
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"the undo record {path} cannot be read ({error}): look at it, heal by hand, remove it"
            ) from error
    return sorted(found, key=lambda undo: undo.wall)


def forget(region: Region, fault_id: str) -> None:
    """Remove a record; nothing happens where there is none."""
    (region.undo_folder / f"{fault_id}.json").unlink(missing_ok=True)
