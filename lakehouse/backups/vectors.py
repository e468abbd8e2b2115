"""The customer's own copies of the bucket with vectors: listed, taken, restored, and compared object by object."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from pyarrow.fs import FileInfo, S3FileSystem

from gameday.engine import Engine
from gameday.errors import HarnessError
from gameday.regions import Region
from lakehouse.backups.backup import Backup, Verification
from lakehouse.backups.region_stores import BACKUP_STORE, OBJECT_STORE, RegionStores, content_of, objects_under, reading
from lakehouse.hour import declared
from lakehouse.provider import COPY_BUCKET, COPY_DEADLINE_S, VECTOR_BUCKET

SERVICE = "customer-copy"

_NAMED = "%Y%m%dT%H%M%SZ"
_COMPLETE, _MANIFEST, _SUMS = "complete.json", "manifest.json", "SHA256SUMS"
_PIECE = 1 << 20
# Of a store's clock, which says only the second.
_CLOCK_S = 1.0
_SHOWN = 5


@dataclass(frozen=True)
class Original:
    """An object as it was when it was copied."""

    size: int
    digest: str


@dataclass(frozen=True)
class Copy:
    """What a copy says of itself: when it was begun and ended (seconds since the epoch), and what is in it."""

    begun_wall: float
    ended_wall: float
    originals: Mapping[str, Original]


@dataclass(frozen=True)
class VectorCopies:
    """The kind of backup that the customer takes of the vectors."""

    region: Region
    engine: Engine
    name: str = field(default="vectors", init=False)
    actor: str = field(default="customer", init=False)

    @property
    def every_s(self) -> float:
        """The customer's own interval, in seconds: it is the hour too."""
        return declared(self.region)

    def backups(self) -> Sequence[Backup]:
        """Return all copies, oldest first; one that is under way is none yet."""
        files, wall = self._stores.files(BACKUP_STORE), time.time()
        stored = objects_under(files, COPY_BUCKET)
        names = sorted({name.split("/")[0] for name in stored if "/" in name})
        listed = [(name, begun) for name in names if (begun := _begun(name)) is not None]
        if listed and f"{listed[-1][0]}/{_COMPLETE}" not in stored and wall - listed[-1][1] <= COPY_DEADLINE_S:
            listed.pop()
        return [_backup(files, name, begun, stored) for name, begun in listed]

    def take(self) -> Backup:
        """Take a copy now, after one that is under way; raises HarnessError where that fails."""
        customer = self._stores.running(SERVICE)
        command = ("exec", customer.name, "bash", "/usr/local/bin/customer-copy.sh", "now")
        name = self.engine.call(*command, deadline_s=2.0 * COPY_DEADLINE_S).strip()
        for backup in self.backups():
            if backup.name == name:
                return backup
        raise HarnessError(f"the customer's machine says that it took the copy {name}, and there is none in the store")

    def verify(self, backup: Backup, say: Callable[[str], None]) -> Verification:
        """Restore a copy into a scratch folder, and compare each object with what it was, and with the live one.

        A live object of the same name has to be equal byte by byte, and one that is older than the copy has to be in
        it. Without a live bucket a copy is compared with its own list alone.
        """
        files = self._stores.files(BACKUP_STORE)
        try:
            copy = _copy(files, backup.name)
        except (HarnessError, ValueError, KeyError, TypeError) as error:
            return Verification("nothing", (f"{backup.name} does not say what is in it: {error}",))
        with tempfile.TemporaryDirectory(prefix="restored-") as folder:
            say(f"restore {len(copy.originals)} objects of {backup.name}")
            restored, problems = _restored(files, f"{COPY_BUCKET}/{backup.name}/{VECTOR_BUCKET}", Path(folder))
            problems += _odd(copy, restored)
            compared = f"{len(restored)} objects with the list of the copy"
            if self._stores.found(OBJECT_STORE):
                say("compare with the live bucket")
                live = self._stores.files(OBJECT_STORE)
                same, differing = _compared(live, copy, restored)
                problems += differing
                compared += f", {same} of them with the live bucket"
        return Verification(compared, tuple(problems))

    @property
    def _stores(self) -> RegionStores:
        return RegionStores(self.region, self.engine)


def _begun(name: str) -> float | None:
    """Return when a copy of this name was begun; None where that is no name of a copy."""
    try:
        return datetime.strptime(name, _NAMED).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _backup(files: S3FileSystem, name: str, begun: float, stored: Mapping[str, FileInfo]) -> Backup:
    folder = f"{name}/{VECTOR_BUCKET}/"
    sizes = {path.removeprefix(folder): item.size for path, item in stored.items() if path.startswith(folder)}
    problem: str | None
    try:
        copy = _copy(files, name)
        # what is live at its beginning is in it, and what came later need not be
        begun, problem = copy.begun_wall, _shown(_wrong(copy, sizes))
    except (HarnessError, ValueError, KeyError, TypeError) as error:
        there = f"{name}/{_COMPLETE}" in stored
        problem = f"it does not say what is in it: {error}" if there else f"it was cut off: {_COMPLETE} is missing"
    return Backup(name, begun, sum(sizes.values()), problem)


def _copy(files: S3FileSystem, name: str) -> Copy:
    """Return what a copy says of itself; raises HarnessError or ValueError where it does not."""
    folder = f"{COPY_BUCKET}/{name}"
    complete = json.loads(content_of(files, f"{folder}/{_COMPLETE}"))
    sizes = {item["Path"]: int(item["Size"]) for item in json.loads(content_of(files, f"{folder}/{_MANIFEST}"))}
    lines = content_of(files, f"{folder}/{_SUMS}").decode().splitlines()
    digests = {path: digest for digest, _, path in (line.partition("  ") for line in lines)}
    if set(sizes) != set(digests) or (len(sizes), sum(sizes.values())) != (complete["objects"], complete["bytes"]):
        raise ValueError(f"{_COMPLETE}, {_MANIFEST} and {_SUMS} contradict each other")
    originals = {path: Original(size, digests[path]) for path, size in sizes.items()}
    return Copy(float(complete["begun_wall"]), float(complete["ended_wall"]), originals)


def _wrong(copy: Copy, sizes: Mapping[str, int]) -> list[str]:
    """Tell which objects of a copy are missing or have another size, as far as a listing shows."""
    found = []
    for path, original in sorted(copy.originals.items()):
        if path not in sizes:
            found.append(f"{path} is missing")
        elif sizes[path] != original.size:
            found.append(f"{path} has {sizes[path]} bytes and not {original.size}")
    return found


def _shown(problems: Sequence[str]) -> str | None:
    more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return "; ".join([*problems[:_SHOWN], *more]) or None


def _restored(files: S3FileSystem, source: str, folder: Path) -> tuple[dict[str, Original], list[str]]:
    """Fetch all objects of a copy into a folder; return what arrived there, by name, and what could not be read.

    One that could not has no digest. The store itself refuses one whose bytes are not those that it was given.
    """
    arrived, problems = {}, []
    for number, (path, item) in enumerate(sorted(objects_under(files, source).items())):
        # by number: the name of an object may be none of a file
        target = folder / str(number)
        try:
            with files.open_input_stream(f"{source}/{path}", compression=None) as stream, target.open("wb") as file:
                while piece := stream.read(_PIECE):
                    file.write(piece)
        except OSError as error:
            problems.append(f"{path} cannot be read: {' '.join(str(error).split())[:200]}")
            arrived[path] = Original(item.size, "")
            continue
        with target.open("rb") as file:
            digest = sha256()
            while piece := file.read(_PIECE):
                digest.update(piece)
        arrived[path] = Original(target.stat().st_size, digest.hexdigest())
    return arrived, problems


def _odd(copy: Copy, restored: Mapping[str, Original]) -> list[str]:
    """Tell which objects were not restored as they were copied."""
    sizes = {path: found.size for path, found in restored.items()}
    differ = [
        f"{path} has other bytes than were copied"
        for path, found in sorted(restored.items())
        if (original := copy.originals.get(path)) and original.size == found.size and original != found
    ]
    more = [f"{path} is in the copy, but not in its list" for path in sorted(set(restored) - set(copy.originals))]
    return [*_wrong(copy, sizes), *differ, *more]


def _compared(live: S3FileSystem, copy: Copy, restored: Mapping[str, Original]) -> tuple[int, list[str]]:
    """Return how many live objects were restored byte by byte, and what is not as it is live."""
    same, problems = 0, []
    for path, item in sorted(objects_under(live, VECTOR_BUCKET).items()):
        found = restored.get(path)
        if found is None:
            if item.mtime.timestamp() + _CLOCK_S < copy.begun_wall:
                problems.append(f"{path} was live before the copy was begun, and is not in it")
            continue
        digest = _digest(live, f"{VECTOR_BUCKET}/{path}")
        if digest == found.digest:
            same += 1
        elif digest:
            problems.append(f"{path} is not as it is live: {found.size} bytes in the copy, {item.size} live")
    return same, problems


def _digest(files: S3FileSystem, path: str) -> str:
    """Return the digest of an object; nothing where it is no longer there."""
    digest = sha256()
    try:
        with reading(path), files.open_input_stream(path, compression=None) as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
    except HarnessError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return ""
        raise
    return digest.hexdigest()
