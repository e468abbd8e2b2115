"""Tells Prometheus how old the newest backup of each kind is, as the store itself has it.

python3 -m lakehouse.backup.ages

AGES_PORT       where `/metrics` and `/healthz` are served
AGES_KINDS      JSON: of each kind that is taken its `formation` and its interval in seconds, `every_s`
AGES_OBJECTS    JSON: of each formation the objects that a backup of Velero's should have, as its own listing has them
AGES_STORE      the remote of rclone with the buckets (`store:`)
RCLONE_CONFIG_* the store

A backup counts from the moment to which it restores, and only when it is complete. One of Velero's that lacks an object
of its formation is not: that was gone when it was taken. A kind that has none has 0. While the store cannot be read
there are no samples: what is not known is not told.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lakehouse.backup.store import NAMED, BackupError, Stored, content, objects
from lakehouse.backup.velero_listing import LISTING, Listing, lacking_objects, read_listing

NEWEST, SIZE, EVERY = (
    "lakehouse_backup_newest_timestamp_seconds",
    "lakehouse_backup_newest_size_bytes",
    "lakehouse_backup_every_seconds",
)
# A look costs a listing of each kind's folder: so often in the shortest interval of a schedule, and no more often.
_LOOKS = 60
_LOOK_EVERY_S_MIN = 10.0
# What was last seen is told for so many looks more: until then several have failed.
_LOOKS_KEPT = 6
VELERO = "velero-"
_ENDED = ("Completed", "PartiallyFailed", "Failed", "FailedValidation")
_HELP = {
    NEWEST: "Moment to which the newest complete backup restores, 0 where there is none.",
    SIZE: "Size of the newest complete backup in the store.",
    EVERY: "Interval of the schedule.",
}


@dataclass(frozen=True)
class Newest:
    """The newest complete backup of a kind: the moment to which it restores, and its size in the store."""

    wall: float = 0.0
    size: int = 0


def newest(store: str, kind: str, wanted: Listing, refused: set[str]) -> Newest:
    """Look for the newest complete backup of a kind; raises BackupError where the store cannot be read.

    `wanted` are the objects that one of Velero's should have. Those that ended as no good are kept in `refused` by
    their names, so that none is read twice.
    """
    if kind.startswith(VELERO):
        return _of_velero(f"{store}backups/velero/backups", kind.removeprefix(VELERO), wanted, refused)
    place, complete, moment = _KINDS[kind]
    found = objects(f"{store}{place}")
    taken = {
        path.rpartition("/")[0]: moment(path.split("/")[-2], item)
        for path, item in found.items()
        if path.endswith(f"/{complete}")
    }
    # a folder of another name is none of ours
    dated = {folder: wall for folder, wall in taken.items() if wall is not None}
    if not dated:
        return Newest()
    folder = max(dated, key=lambda one: dated[one])
    return Newest(dated[folder], _size(found, folder))


def _named(name: str, _item: Stored) -> float | None:
    """Return the moment that a backup is named by."""
    try:
        return datetime.strptime(name, NAMED).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _written(_name: str, item: Stored) -> float | None:
    """Return when the object that completes a backup was written."""
    return item.wall


# Of each kind: its folder, the object that completes a backup, and how the moment to which it restores is known. The
# name says when one was begun, which is what it holds; pgBackRest restores to the end, when it writes the manifest.
_KINDS: dict[str, tuple[str, str, Callable[[str, Stored], float | None]]] = {
    "etcd": ("backups/etcd", "manifest.json", _named),
    "vectors": ("vector-copies", "complete.json", _named),
    "postgres": ("backups/postgres/backup", "backup.manifest", _written),
}


def _of_velero(place: str, formation: str, wanted: Listing, refused: set[str]) -> Newest:
    found = objects(place)
    # backups have the name of their schedule, and when they were begun
    for path in sorted(found, reverse=True):
        name, _, file = path.rpartition("/")
        if file != "velero-backup.json" or not name.startswith(f"formation-{formation}-") or name in refused:
            continue
        try:
            status = json.loads(content(f"{place}/{path}"))["status"]
            begun = datetime.fromisoformat(status["startTimestamp"]).timestamp()
            listing = f"{name}/{name}{LISTING}"
            complete = status["phase"] == "Completed" and listing in found
            complete = complete and lacking_objects(wanted, read_listing(content(f"{place}/{listing}"))) is None
            if not complete and status["phase"] in _ENDED:
                refused.add(name)
        except (ValueError, KeyError, TypeError):
            # a damaged one is no complete one
            continue
        if complete:
            return Newest(begun, _size(found, name))
    return Newest()


def _size(found: Mapping[str, Stored], folder: str) -> int:
    return sum(item.size for path, item in found.items() if path.startswith(f"{folder}/"))


@dataclass
class Ages:
    """What was last seen of each kind, for those who ask meanwhile."""

    store: str
    kinds: Mapping[str, Mapping[str, str | float]]
    wanted: Mapping[str, Listing]
    _seen: dict[str, tuple[float, Newest]] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)

    @property
    def look_every_s(self) -> float:
        """How long to wait from one look to the next, in seconds."""
        return max(_LOOK_EVERY_S_MIN, min(float(said["every_s"]) for said in self.kinds.values()) / _LOOKS)

    def look(self) -> None:
        """Look at the store once; what cannot be read is said in the log."""
        for kind, said in self.kinds.items():
            try:
                wanted = self.wanted.get(str(said["formation"]), {})
                self._seen[kind] = time.monotonic(), newest(self.store, kind, wanted, self._refused)
            except (BackupError, ValueError, KeyError) as error:
                print(f"{kind}: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the log of the pod

    def metrics(self) -> str:
        """Return what is known, as Prometheus reads it."""
        young = time.monotonic() - _LOOKS_KEPT * self.look_every_s
        known = {kind: seen for kind, (at, seen) in dict(self._seen).items() if at >= young}
        of_kind = {kind: f'kind="{kind}",formation="{said["formation"]}"' for kind, said in self.kinds.items()}
        lines = [
            *_metric(NEWEST, ((of_kind[kind], seen.wall) for kind, seen in known.items())),
            *_metric(SIZE, ((of_kind[kind], seen.size) for kind, seen in known.items())),
            *_metric(EVERY, ((of_kind[kind], float(said["every_s"])) for kind, said in self.kinds.items())),
        ]
        return "".join(f"{line}\n" for line in lines)


def _metric(name: str, samples: Iterable[tuple[str, float]]) -> list[str]:
    shown = [f"{name}{{{labels}}} {value:.3f}" for labels, value in samples]
    return [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} gauge", *shown]


def serve(ages: Ages, port: int) -> None:
    """Serve the page, and go on looking; never returns."""

    def page(path: str) -> bytes:
        return ages.metrics().encode() if path == "/metrics" else b"ok\n" if path == "/healthz" else b""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = page(self.path)
            self.send_response(200 if text else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server gives
            """Say nothing: it is asked every few seconds."""

    server = ThreadingHTTPServer(("", port), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        ages.look()
        time.sleep(ages.look_every_s)


def main() -> int:
    """Serve what the environment says."""
    try:
        kinds, wanted = (json.loads(os.environ[name]) for name in ("AGES_KINDS", "AGES_OBJECTS"))
        ages = Ages(os.environ["AGES_STORE"], kinds, wanted)
        serve(ages, int(os.environ["AGES_PORT"]))
    except (KeyError, ValueError) as error:
        print(f"a setting is missing or wrong: {error}", file=sys.stderr)  # noqa: T201 - to the operator
    return 1


if __name__ == "__main__":
    sys.exit(main())
