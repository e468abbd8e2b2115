"""Takes snapshots of Milvus's etcd that are consistent with the bucket of vectors.

python3 -m lakehouse.backup.snapshot once   takes one, prints its name, and exits with 1 where that failed
python3 -m lakehouse.backup.snapshot loop   takes one at once, and then on every interval

BACKUP_ETCD_MEMBERS     HOST:PORT of each member, with commas; the first that is healthy is asked
BACKUP_ETCD_ROOT        first part of every key of Milvus
BACKUP_ETCD_TO          where snapshots go, as rclone has it (`store:backups/etcd`)
BACKUP_VECTORS          the bucket that etcd refers to (`live:vectors`)
BACKUP_ROOT_PATH        where in that bucket Milvus keeps its objects
BACKUP_EVERY_SECONDS    how often one is taken
BACKUP_KEPT             how many are kept
RCLONE_CONFIG_*         both stores

A segment is written before etcd refers to it, and never changed. So a bucket that is looked at after the snapshot holds
all that the snapshot refers to; where it does not, something was lost, and that is no backup.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from lakehouse.backup.contents import Contents
from lakehouse.backup.store import NAMED, BackupError, content, objects, output, put, remove

SNAPSHOT, MANIFEST = "snapshot.db", "manifest.json"
# After one that failed the next is tried so soon, unless the interval is shorter: its reason may have passed.
_AGAIN_S = 30.0
_SHOWN = 5


@dataclass(frozen=True)
class Settings:
    """What the environment says; see the module."""

    members: tuple[str, ...]
    root: str
    to: str
    vectors: str
    root_path: str
    every_s: float
    kept: int

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """Read them; raises BackupError for one that is missing or no number."""
        try:
            return cls(
                members=tuple(environment["BACKUP_ETCD_MEMBERS"].split(",")),
                root=environment["BACKUP_ETCD_ROOT"],
                to=environment["BACKUP_ETCD_TO"],
                vectors=environment["BACKUP_VECTORS"],
                root_path=environment["BACKUP_ROOT_PATH"],
                every_s=float(environment["BACKUP_EVERY_SECONDS"]),
                kept=max(1, int(environment["BACKUP_KEPT"])),
            )
        except KeyError as error:
            raise BackupError(f"{error.args[0]} is not set") from error
        except ValueError as error:
            raise BackupError(f"a setting is no number: {error}") from error


@dataclass(frozen=True)
class Manifest:
    """What a snapshot says of itself. It is written last: a folder without one holds no backup.

    begun_wall, ended_wall   when it was taken, in seconds since the epoch
    revision                 of etcd, to which it restores
    hash                     what etcdutl makes of the snapshot
    sha256, bytes            of the file
    keys, content_sha256     of what etcd held at the revision: how many keys, and the digest of all
    root, root_path          first part of Milvus's keys, and of its objects in the bucket
    objects                  those that etcd refers to, with their sizes
    """

    begun_wall: float
    ended_wall: float
    revision: int
    hash: int
    sha256: str
    bytes: int
    keys: int
    content_sha256: str
    root: str
    root_path: str
    objects: Mapping[str, int]


def take(settings: Settings) -> str:
    """Take a snapshot and return its name; raises BackupError where there is none, or where it refers to nothing.

    One that is under way in another process is waited for.
    """
    with _alone(settings), tempfile.TemporaryDirectory(prefix="snapshot-") as folder:
        begun = time.time()
        name = datetime.fromtimestamp(begun, UTC).strftime(NAMED)
        file = Path(folder) / SNAPSHOT
        manifest = _taken(settings, file, begun)
        put(file, f"{settings.to}/{name}/{SNAPSHOT}")
        said = Path(folder) / MANIFEST
        said.write_text(json.dumps({**asdict(manifest), "ended_wall": time.time()}, indent=1))
        put(said, f"{settings.to}/{name}/{MANIFEST}")
        _remove_old(settings, name)
        # the next one has another name
        time.sleep(max(0.0, int(begun) + 1 - time.time()))
    return name


def _taken(settings: Settings, file: Path, begun: float) -> Manifest:
    member = _healthy(settings.members)
    _etcdctl(member, "snapshot", "save", str(file))
    status = json.loads(output(["etcdutl", "snapshot", "status", str(file), "-w", "json"]))
    revision = int(status["revision"])
    held = _held(member, revision)
    if not held.keys:
        raise BackupError(f"etcd holds no key at revision {revision}: there is nothing to back up")
    try:
        wanted = held.referenced(settings.root, settings.root_path)
    except ValueError as error:
        raise BackupError(str(error)) from error
    # after the snapshot: see the module
    there = objects(f"{settings.vectors}/{settings.root_path}")
    sizes = {f"{settings.root_path}/{path}": item.size for path, item in there.items()}
    missing = sorted(wanted - set(sizes))
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        named = ", ".join(missing[:_SHOWN]) + more
        raise BackupError(f"etcd refers at revision {revision} to what the bucket does not hold: {named}")
    return Manifest(
        begun_wall=begun,
        ended_wall=begun,
        revision=revision,
        hash=int(status["hash"]),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        bytes=file.stat().st_size,
        keys=len(held.keys),
        content_sha256=held.digest(),
        root=settings.root,
        root_path=settings.root_path,
        objects={path: sizes[path] for path in sorted(wanted)},
    )


def _healthy(members: tuple[str, ...]) -> str:
    """Return the first member that is healthy; raises BackupError where none is.

    A member that lost its majority would still hand out what it has. It is not healthy: that takes a read which the
    majority agrees to, so that the member has caught up with what was there before.
    """
    problems = []
    for member in members:
        try:
            _etcdctl(member, "endpoint", "health")
        except BackupError as error:
            problems.append(f"{member}: {error}")
        else:
            return member
    raise BackupError(f"no member of etcd is healthy: {'; '.join(problems)}")


def _held(member: str, revision: int) -> Contents:
    answer = _etcdctl(member, "get", "", "--prefix", f"--rev={revision}", "-w", "json")
    try:
        return Contents.of_answer(answer)
    except (ValueError, KeyError) as error:
        raise BackupError(f"etcd's answer cannot be read: {error}") from error


def _etcdctl(member: str, *arguments: str) -> bytes:
    return output(["etcdctl", f"--endpoints={member}", "--dial-timeout=3s", "--command-timeout=60s", *arguments])


def _remove_old(settings: Settings, newest: str) -> None:
    """Remove all but the newest that are complete, and what was cut off before the newest."""
    folders: dict[str, set[str]] = {}
    for path in objects(settings.to):
        name, _, file = path.partition("/")
        folders.setdefault(name, set()).add(file)
    complete = sorted(name for name, files in folders.items() if MANIFEST in files)
    kept = {*complete[-settings.kept :], newest}
    for name in sorted(folders):
        if name in kept or name > newest:
            continue
        # its manifest first: from then on it is none, however far this comes
        for file in sorted(folders[name], key=lambda one: one != MANIFEST):
            remove(f"{settings.to}/{name}/{file}")


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    digest = hashlib.sha256(settings.to.encode()).hexdigest()[:8]
    with (Path(tempfile.gettempdir()) / f"snapshot-{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def loop(settings: Settings) -> None:
    """Take snapshots on the interval, the first at once unless the newest is young; never returns."""
    due = _newest(settings) + settings.every_s
    while True:
        time.sleep(max(0.0, min(due - time.time(), settings.every_s)))
        begun = time.time()
        try:
            print(f"took {take(settings)}", flush=True)  # noqa: T201 - the log of the pod
            due = begun + settings.every_s
        except BackupError as error:
            print(f"no snapshot was taken: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the log of the pod
            due = begun + min(_AGAIN_S, settings.every_s)


def _newest(settings: Settings) -> float:
    """Return when the newest was begun, 0 where none is known; a pod that was moved need not take another."""
    try:
        names = sorted(path.partition("/")[0] for path in objects(settings.to) if path.endswith(f"/{MANIFEST}"))
        return float(json.loads(content(f"{settings.to}/{names[-1]}/{MANIFEST}"))["begun_wall"]) if names else 0.0
    except (BackupError, ValueError, KeyError):
        # it is taken now, and the log says then what is wrong
        return 0.0


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="snapshots of etcd")
    parser.add_argument("what", choices=("once", "loop"))
    what = parser.parse_args().what
    try:
        settings = Settings.read(os.environ)
        if what == "loop":
            loop(settings)
        print(take(settings))  # noqa: T201 - the answer
    except BackupError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the answer
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
