"""Snapshots of Milvus's etcd: listed, taken, restored beside the living one, and compared with it key by key."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pyarrow.fs import S3FileSystem

from gameday.engine import Engine
from gameday.errors import HarnessError
from gameday.regions import Region
from lakehouse.backup.contents import Contents
from lakehouse.backup.snapshot import MANIFEST, SNAPSHOT, Manifest
from lakehouse.backup.store import NAMED
from lakehouse.backup_settings import ETCD_BACKUPS
from lakehouse.backups.backup import Backup, Verification
from lakehouse.backups.backup_pod import BackupPod
from lakehouse.backups.region_stores import BACKUP_STORE, OBJECT_STORE, RegionStores, content_of, objects_under
from lakehouse.backups.scratch_etcd import CannotRestoreError, contents_of, status_of
from lakehouse.hour import declared
from lakehouse.provider import VECTOR_BUCKET

_SHOWN = 5
# A snapshot takes a few seconds.
_UNDER_WAY_S = 60.0
_TAKE = ("python3", "-m", "lakehouse.backup.snapshot", "once")

# All keys at a revision, by any member that answers.
_SCRIPT = 'exec etcdctl --endpoints="$BACKUP_ETCD_MEMBERS" --command-timeout=60s get "" --prefix --rev="$1" -w json'
_READ = ("sh", "-c", _SCRIPT, "sh")

# What etcd says of a revision that it no longer has, and how one asks for the newest.
_COMPACTED, _NOW = "has been compacted", 0

type InPod = Callable[[Sequence[str]], str]


def compare_with_living(in_pod: InPod, restored: Contents, revision: int) -> tuple[int, str, list[str]]:
    """Compare what was restored with what the living etcd holds at that revision, key by key.

    Where etcd has compacted that revision, only keys that it has not changed since can be: which others there were it
    does not say, least of all when it was itself restored meanwhile. Returns how many keys were compared, which, and
    the first that differ; raises HarnessError, ValueError or KeyError where etcd does not say.
    """
    try:
        living = _living_contents(in_pod, revision)
    except HarnessError as error:
        if _COMPACTED not in str(error):
            raise
        now = _living_contents(in_pod, _NOW)
        living, restored = now.last_changed_as_in(restored), restored.last_changed_as_in(now)
        which = "keys that the living etcd has not changed since, as it has compacted what it had"
    else:
        which = "keys with the living etcd"
    return len(living.keys), which, differing_keys(living, restored)


def _living_contents(in_pod: InPod, revision: int) -> Contents:
    return Contents.of_answer(in_pod((*_READ, str(revision))).encode())


def differing_keys(live: Contents, restored: Contents) -> list[str]:
    """Name the first keys that were not restored, or other than the living etcd has them."""
    found = [f"the key {key} was not restored" for key in sorted(set(live.keys) - set(restored.keys))]
    found += [f"the key {key} was restored, and etcd had none" for key in sorted(set(restored.keys) - set(live.keys))]
    both = sorted(set(live.keys) & set(restored.keys))
    found += [f"the key {key} has another value or revision" for key in both if live.keys[key] != restored.keys[key]]
    more = [f"and {len(found) - _SHOWN} more keys differ"] if len(found) > _SHOWN else []
    return [*found[:_SHOWN], *more]


@dataclass(frozen=True)
class Snapshots:
    """The snapshots in a store of backups.

    `live` is the store with the bucket that they refer to, None where there is none; `in_pod` runs a command where
    snapshots are taken and returns what it printed, or raises HarnessError.
    """

    store: S3FileSystem
    live: S3FileSystem | None
    in_pod: InPod

    def backups(self) -> list[Backup]:
        """Return all snapshots, oldest first; raises HarnessError where the store cannot be read."""
        sizes = _sizes_under(self.store, ETCD_BACKUPS)
        names = sorted({path.partition("/")[0] for path in sizes})
        dated = [(name, wall) for name in names if (wall := _moment(name)) is not None]
        if dated and f"{dated[-1][0]}/{MANIFEST}" not in sizes and time.time() - dated[-1][1] < _UNDER_WAY_S:
            # it is being taken
            dated.pop()
        return [self._backup(name, wall, sizes) for name, wall in dated]

    def take(self) -> Backup:
        """Take one now, after one that is under way; raises HarnessError where that fails."""
        name = self.in_pod(_TAKE).strip().splitlines()[-1]
        for backup in self.backups():
            if backup.name == name:
                return backup
        raise HarnessError(f"the snapshot {name} was taken, and is not in the store")

    def verify(self, backup: Backup, say: Callable[[str], None]) -> Verification:
        """Restore a snapshot into an etcd of its own, compare it with the living one, and look for what it refers to.

        Both are read at the snapshot's revision; where the living etcd has compacted that one, keys that did not change
        since are compared. What etcd held when the snapshot was taken is known by its digest as well, and by that alone
        where the living etcd is not there; `compared` says so.
        """
        try:
            manifest = self._manifest(backup.name)
        except (HarnessError, ValueError, KeyError, TypeError) as error:
            _sizes_under(self.store, ETCD_BACKUPS)
            return Verification("nothing", (f"{backup.name} does not say what is in it: {error}",))
        with tempfile.TemporaryDirectory(prefix="restored-") as folder:
            say(f"fetch {backup.name}")
            file = Path(folder) / SNAPSHOT
            try:
                file.write_bytes(content_of(self.store, f"{ETCD_BACKUPS}/{backup.name}/{SNAPSHOT}"))
            except HarnessError as error:
                # of the backup, unless the store itself is away
                _sizes_under(self.store, ETCD_BACKUPS)
                return Verification("nothing", (str(error),))
            wrong = _wrong(manifest, file)
            say(f"restore it, and read it at revision {manifest.revision}")
            try:
                restored = contents_of(file, manifest.revision)
            except CannotRestoreError as error:
                return Verification("nothing", (*wrong, f"{backup.name} cannot be restored: {error}"))
        say("compare with the living etcd")
        compared, differing = self._compare(manifest, restored)
        say(f"look for the {len(manifest.objects)} objects that it refers to")
        counted, missing = self._referenced(manifest, restored)
        return Verification(f"{compared}, {counted}", (*wrong, *differing, *missing))

    def _backup(self, name: str, wall: float, sizes: Mapping[str, int]) -> Backup:
        size = sum(size for path, size in sizes.items() if path.startswith(f"{name}/"))
        problem = None
        if f"{name}/{MANIFEST}" not in sizes:
            problem = f"it is not complete: {MANIFEST} is missing"
        else:
            try:
                manifest = self._manifest(name)
                there = sizes.get(f"{name}/{SNAPSHOT}")
                if there is None:
                    problem = f"{SNAPSHOT} is missing"
                elif there != manifest.bytes:
                    problem = f"{SNAPSHOT} has {there} bytes and not {manifest.bytes}"
            except (HarnessError, ValueError, KeyError, TypeError) as error:
                problem = f"it does not say what is in it: {error}"
        return Backup(name, wall, size, problem)

    def _manifest(self, name: str) -> Manifest:
        return Manifest(**json.loads(content_of(self.store, f"{ETCD_BACKUPS}/{name}/{MANIFEST}")))

    def _compare(self, manifest: Manifest, restored: Contents) -> tuple[str, list[str]]:
        problems = []
        if (len(restored.keys), restored.digest()) != (manifest.keys, manifest.content_sha256):
            problems.append(
                f"restored are {len(restored.keys)} keys, and they are not the {manifest.keys} that etcd held then"
            )
        try:
            count, which, differing = compare_with_living(self.in_pod, restored, manifest.revision)
        except (HarnessError, ValueError, KeyError) as error:
            said = " ".join(str(error).split())[-160:]
            return f"{len(restored.keys)} keys with the digest of the snapshot (the living etcd: {said})", problems
        problems += differing
        compared = f"{count} {which} at revision {manifest.revision}"
        return f"{len(restored.keys)} keys with the digest of the snapshot, {compared}", problems

    def _referenced(self, manifest: Manifest, restored: Contents) -> tuple[str, list[str]]:
        try:
            wanted = restored.referenced(manifest.root, manifest.root_path)
        except ValueError as error:
            return "no object", [str(error)]
        problems = [f"{path} is referred to, and is not in the manifest" for path in wanted - set(manifest.objects)]
        if self.live is None:
            return "no object, as the bucket is not there", problems
        sizes = _sizes_under(self.live, f"{VECTOR_BUCKET}/{manifest.root_path}")
        there = {f"{manifest.root_path}/{path}": size for path, size in sizes.items()}
        for path, size in sorted(manifest.objects.items()):
            if path not in there:
                problems.append(f"{path} is referred to, and is not in the bucket")
            elif there[path] != size:
                problems.append(f"{path} has {there[path]} bytes in the bucket and had {size}")
        return f"{len(manifest.objects)} objects with the bucket", problems


@dataclass(frozen=True)
class EtcdSnapshots:
    """The kind of backup that the SRE takes of Milvus's metadata."""

    region: Region
    engine: Engine
    name: str = field(default="etcd", init=False)
    actor: str = field(default="sre", init=False)

    @property
    def every_s(self) -> float:
        """How often its schedule takes one, in seconds."""
        return declared(self.region)

    def backups(self) -> Sequence[Backup]:
        """Return all snapshots, oldest first; raises HarnessError where the store cannot be read."""
        return self._snapshots().backups()

    def take(self) -> Backup:
        """Take one now in the pod that takes them; raises HarnessError where that fails."""
        return self._snapshots().take()

    def verify(self, backup: Backup, say: Callable[[str], None]) -> Verification:
        """Restore a snapshot and compare it: see Snapshots."""
        return self._snapshots().verify(backup, say)

    def _snapshots(self) -> Snapshots:
        stores = RegionStores(self.region, self.engine)
        live = stores.files(OBJECT_STORE) if stores.found(OBJECT_STORE) else None
        return Snapshots(stores.files(BACKUP_STORE), live, BackupPod(self.region).run)


def _wrong(manifest: Manifest, file: Path) -> list[str]:
    """Tell what is wrong with the file of a snapshot."""
    data = file.read_bytes()
    if len(data) != manifest.bytes:
        return [f"{SNAPSHOT} has {len(data)} bytes and not {manifest.bytes}: it was truncated or changed"]
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        return [f"{SNAPSHOT} has other bytes than were written"]
    try:
        found = int(status_of(file)["hash"])
    except (HarnessError, ValueError, KeyError) as error:
        return [f"etcdutl cannot read {SNAPSHOT}: {error}"]
    return [] if found == manifest.hash else [f"the hash of {SNAPSHOT} is {found} and was {manifest.hash}"]


def _moment(name: str) -> float | None:
    try:
        return datetime.strptime(name, NAMED).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _sizes_under(files: S3FileSystem, prefix: str) -> dict[str, int]:
    return {path: item.size for path, item in objects_under(files, prefix).items()}
