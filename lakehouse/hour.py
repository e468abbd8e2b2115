"""What of a lakehouse is backed up, and the "hour" of the backups: how long one is, declared when it is deployed.

An hourly backup is waited for by nobody, so the hour may be declared shorter; every schedule and every bound that comes
from it shrinks with it. It is kept in the region's folder: backups outlive the cluster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from gameday.errors import HarnessError, UsageError
from gameday.regions import Region
from lakehouse.backup.velero_listing import Listing

REAL_HOUR_S = 3600.0
# A base backup, a snapshot and a copy take a few seconds each, and must not follow each other without a pause.
_SHORTEST_S = 30.0
_FILE = "hour-seconds"
_FORMATIONS = "formations"
_OBJECTS = "objects.json"


def declare(region: Region, hour_s: float) -> None:
    """Keep how long the hour of a region is, in seconds; raises UsageError where that is no time to back up in."""
    if not _SHORTEST_S <= hour_s <= REAL_HOUR_S:
        raise UsageError(f"an hour of {hour_s:g} s: it may be declared from {_SHORTEST_S:g} to {REAL_HOUR_S:g} s long")
    region.make_folder()
    (region.folder / _FILE).write_text(f"{hour_s:g}\n")


def keep_formations(region: Region, names: Sequence[str]) -> None:
    """Keep which formations of a region are deployed, and so are backed up."""
    region.make_folder()
    (region.folder / _FORMATIONS).write_text(",".join(names))


def kept_formations(region: Region) -> list[str]:
    """Return the names of the formations that are deployed in a region; none where there never was one."""
    path = region.folder / _FORMATIONS
    return path.read_text().split(",") if path.exists() else []


def keep_objects(region: Region, objects: Mapping[str, Listing]) -> None:
    """Keep which objects each formation has, by its name: what of them a backup lacks, no restore brings back."""
    region.make_folder()
    (region.folder / _OBJECTS).write_text(json.dumps(objects))


def kept_objects(region: Region, formation: str) -> Listing:
    """Return the objects of a formation, as a listing of Velero's has them; none where nothing was ever deployed.

    Raises HarnessError where what is kept cannot be read.
    """
    path = region.folder / _OBJECTS
    if not path.exists():
        return {}
    try:
        kept = json.loads(path.read_text())[formation]
        return {str(kind): [str(name) for name in names] for kind, names in kept.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HarnessError(f"{path} cannot be read: deploy {formation} anew by `chaos lakehouse up`") from error


def declared(region: Region) -> float:
    """Return how long the hour of a region is, in seconds: a real one unless another was declared.

    Raises HarnessError where what is kept is no number.
    """
    path = region.folder / _FILE
    if not path.exists():
        return REAL_HOUR_S
    try:
        return float(path.read_text())
    except ValueError as error:
        raise HarnessError(
            f"{path} says no number of seconds: declare the hour anew by `chaos lakehouse up`"
        ) from error
