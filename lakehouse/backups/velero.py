"""Backups of formations by Velero: listed from the store, taken by its schedules, restored into a scratch namespace."""

from __future__ import annotations

import gzip
import json
import tarfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from typing import Any
from uuid import uuid4

import yaml
from kubernetes import client
from pyarrow.fs import FileInfo

from gameday.engine import Engine
from gameday.errors import DeadlinePassed, HarnessError
from gameday.regions import Region, api_client
from gameday.waiting import wait_until
from lakehouse.backup.velero_listing import LISTING, Listing, lacking_objects, read_listing
from lakehouse.backup_formation import API, VELERO, schedule_name, template
from lakehouse.backups.backup import Backup, Verification, too_old
from lakehouse.backups.backup_pod import BackupPod
from lakehouse.backups.region_stores import BACKUP_STORE, RegionStores, content_of, objects_under
from lakehouse.backups.velero_compare import (
    archived_cluster_objects,
    cluster_objects_of,
    differences,
    objects_of,
)
from lakehouse.backups.velero_objects import SCRATCH, await_ended, delete, listed, made, patch, remove_namespace
from lakehouse.backups.velero_volumes import ScratchVolumes, saved_volumes
from lakehouse.formation import DATA, NAMESPACE, RUNNING, Formation
from lakehouse.hour import declared, kept_objects
from lakehouse.provider import BACKUP_BUCKET

_BACKUPS = f"{BACKUP_BUCKET}/{VELERO}/backups"
_DEADLINE_S = 300.0
# What a restore reads of a backup, by the endings of its files.
_VOLUMES = "-podvolumebackups.json.gz"
_NEEDED = (".tar.gz", LISTING, _VOLUMES)
_COMPLETED = "Completed"
_ENDED = (_COMPLETED, "PartiallyFailed", "Failed", "FailedValidation")
# What a restore leaves alone: what runs, and volumes.
_NOT_RESTORED = ("pods", "persistentvolumeclaims", "persistentvolumes")


@dataclass(frozen=True)
class VeleroBackups:
    """The backups of one formation."""

    region: Region
    engine: Engine
    formation: Formation
    actor: str = field(default="sre", init=False)

    @property
    def name(self) -> str:
        """Return `velero-` and the name of the formation."""
        return f"{VELERO}-{self.formation.name}"

    @property
    def every_s(self) -> float:
        """The declared hour, in seconds."""
        return declared(self.region)

    def backups(self) -> Sequence[Backup]:
        """Return all that the store has, oldest first; those that are being taken are none yet."""
        stored = objects_under(self._files, _BACKUPS)
        begin = f"{schedule_name(self.formation.name)}-"
        names = {path.split("/")[0] for path in stored if path.startswith(begin)}
        found = [self._backup(name, stored) for name in names]
        return sorted((one for one in found if one is not None), key=lambda one: one.taken_wall)

    def _backup(self, name: str, stored: Mapping[str, FileInfo]) -> Backup | None:
        size = sum(item.size for path, item in stored.items() if path.startswith(f"{name}/"))
        modified = max(item.mtime.timestamp() for path, item in stored.items() if path.startswith(f"{name}/"))
        try:
            said = json.loads(content_of(self._files, f"{_BACKUPS}/{name}/velero-backup.json"))
            status = said["status"]
            phase = str(status["phase"])
        except (HarnessError, ValueError, KeyError, TypeError):
            return Backup(name, modified, size, "velero-backup.json cannot be read")
        taken = _wall(status["startTimestamp"])
        if phase not in _ENDED and time.time() - taken < _DEADLINE_S:
            return None
        problem = None if phase == _COMPLETED else f"it is {_why(status)}"
        return Backup(name, taken, size, problem or self._damaged(name, stored))

    def _damaged(self, name: str, stored: Mapping[str, FileInfo]) -> str | None:
        """Tell which archive of a backup cannot be read to its end, or which volume it lacks; None where neither."""
        problem = None
        for ending in _NEEDED:
            archive = f"{name}{ending}"
            if f"{name}/{archive}" not in stored:
                return f"{archive} is missing"
            content = content_of(self._files, f"{_BACKUPS}/{name}/{archive}")
            if not whole(content):
                return f"{archive} is cut short or damaged"
            if ending == _VOLUMES:
                problem = problem or self._lacking_volumes(content)
            if ending == LISTING:
                problem = problem or self._lacking_parts(content)
        return problem

    def _lacking_parts(self, listing: bytes) -> str | None:
        """Tell which objects of the formation were not there when it was taken, as after an accident.

        What the formation has now is no measure: it may lack the same, and would be restored from this.
        """
        try:
            return lacking_objects(self._wanted, read_listing(listing))
        except ValueError as error:
            return str(error)

    @cached_property
    def _wanted(self) -> Listing:
        # one file for all that are listed
        return kept_objects(self.region, self.formation.name)

    def _lacking_volumes(self, archive: bytes) -> str | None:
        saved = {
            f"{one['spec']['pod']['name']}/{one['spec']['volume']}"
            for one in json.loads(gzip.decompress(archive)) or []
            if (one.get("status") or {}).get("phase") == _COMPLETED
        }
        lacking = sorted(set(self._volumes) - saved)
        return f"the volume of {', '.join(lacking)} is not in it" if lacking else None

    @property
    def _volumes(self) -> list[str]:
        """Return each volume that a claim is for, by the pod that has it and its name there."""
        parts = self.formation.stateful.items()
        return [f"{part}-{number}/{DATA}" for part, replicas in parts for number in range(replicas)]

    def take(self) -> Backup:
        """Take one as the schedule would; raises HarnessError where Velero says that it did not succeed."""
        name = f"{schedule_name(self.formation.name)}-{datetime.now(UTC):%Y%m%d%H%M%S}"
        labels = {"velero.io/schedule-name": schedule_name(self.formation.name)}
        metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
        spec = template(self.formation, self.every_s)
        made(self._api, "backups", {"apiVersion": API, "kind": "Backup", "metadata": metadata, "spec": spec})
        status = self._ended("backups", name)
        if status["phase"] != _COMPLETED:
            raise HarnessError(f"backup {name} is {_why(status)}")
        found = [one for one in self.backups() if one.name == name]
        if not found:
            raise HarnessError(f"Velero says that it took {name}, and it is not in the store")
        return found[0]

    def verify(self, backup: Backup, say: Callable[[str], None]) -> Verification:
        """Restore the objects into a scratch namespace, where nothing runs, and compare each with what is there."""
        self._await_known(backup.name)
        archived = list(self._archived(backup.name))
        namespace = f"{SCRATCH}{uuid4().hex[:6]}"
        say(f"restore into namespace {namespace}")
        with self._restored(backup.name, namespace, archived) as status:
            if status["phase"] != _COMPLETED:
                return Verification("nothing", (f"it cannot be restored: {_why(status)}",))
            say("compare object by object")
            there = objects_of(self._api, self.formation.name, NAMESPACE)
            restored = objects_of(self._api, self.formation.name, namespace)
            bytes_ = self._verify_volumes(backup, namespace, say)
        there |= cluster_objects_of(self._api, self.formation.name)
        restored |= archived_cluster_objects(archived, self.formation.name)
        found = (*differences(there, restored), *self._other_replicas(archived), *bytes_.problems)
        if not restored:
            found = (*found, "nothing was restored")
        return Verification(f"{len(there)} objects{bytes_.compared}", found)

    def _verify_volumes(self, backup: Backup, namespace: str, say: Callable[[str], None]) -> Verification:
        """Restore the volumes of a backup and compare their bytes, where the formation has some."""
        if not self.formation.stateful:
            return Verification("", ())
        listing = gzip.decompress(content_of(self._files, f"{_BACKUPS}/{backup.name}/{backup.name}{_VOLUMES}"))
        scratch = ScratchVolumes(self._api, BackupPod(self.region).run, namespace, backup.taken_wall)
        done = scratch.verify(saved_volumes(json.loads(listing)), say)
        return Verification(f", volumes ({done.compared})", done.problems)

    def _other_replicas(self, archived: Sequence[dict[str, Any]]) -> list[str]:
        """Name what would be restored with another number of replicas than the formation has."""
        return [
            f"{item['kind']} {item['metadata']['name']} has {item['spec'].get('replicas')} replicas in it"
            for item in archived
            if item["kind"] in RUNNING
            and item["spec"].get("replicas") != self.formation.parts.get(item["metadata"]["name"])
        ]

    @contextmanager
    def _restored(self, backup: str, namespace: str, archived: Sequence[dict[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Restore a backup into a namespace and yield how that ended; both are removed again."""
        core = client.CoreV1Api(self._api)
        rules = yaml.safe_dump({"version": "v1", "resourceModifierRules": _rules(archived)})
        core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": namespace}, "data": {"rules.yaml": rules}})
        spec = {
            "backupName": backup,
            "namespaceMapping": {NAMESPACE: namespace},
            "excludedResources": list(_NOT_RESTORED),
            "restorePVs": False,
            "preserveNodePorts": False,
            "resourceModifier": {"kind": "configmap", "name": namespace},
        }
        metadata = {"name": namespace, "namespace": NAMESPACE}
        with ExitStack() as left:
            left.callback(remove_namespace, self._api, namespace)
            left.callback(core.delete_namespaced_config_map, namespace, NAMESPACE)
            # by ourselves: what Velero has in the store of a restore goes with its backup
            left.callback(delete, self._api, "restores", namespace)
            left.callback(patch, self._api, "restores", namespace, {"metadata": {"finalizers": None}})
            made(self._api, "restores", {"apiVersion": API, "kind": "Restore", "metadata": metadata, "spec": spec})
            yield self._restore_ended(namespace)

    def _archived(self, backup: str) -> Iterator[dict[str, Any]]:
        """Yield the objects of a backup, as its archive has them."""
        archive = content_of(self._files, f"{_BACKUPS}/{backup}/{backup}.tar.gz")
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            for member in tar:
                # each is there once more by the version of its API
                parts = member.name.removeprefix("./").split("/")
                if parts[0] == "resources" and parts[2] in ("namespaces", "cluster"):
                    content = tar.extractfile(member)
                    if content:
                        yield json.load(content)

    def _await_known(self, name: str) -> None:
        """Wait until Velero has found a backup in the store, as it does after a cluster was made anew."""

        def look() -> str | None:
            known = any(item["metadata"]["name"] == name for item in listed(self._api, "backups"))
            return None if known else "it has not found it in the store yet"

        wait_until(f"Velero to know {name}", look, deadline_s=_DEADLINE_S)

    def _restore_ended(self, name: str) -> dict[str, Any]:
        try:
            return self._ended("restores", name)
        except DeadlinePassed as error:
            # what hangs cannot be restored from, whatever the reason
            return {"phase": "Hanging", "failureReason": str(error)}

    def restore(self, backup: str) -> dict[str, Any]:
        """Put the objects of a backup back where they were, those that are there but other than they were, too.

        Volumes stay as they are. Returns Velero's own status; raises HarnessError where it did not succeed.
        """
        self._await_known(backup)
        name = f"restore-{self.formation.name}-{datetime.now(UTC):%Y%m%d%H%M%S}"
        spec = {
            "backupName": backup,
            "excludedResources": list(_NOT_RESTORED),
            "restorePVs": False,
            "preserveNodePorts": True,
            "existingResourcePolicy": "update",
        }
        metadata = {"name": name, "namespace": NAMESPACE}
        made(self._api, "restores", {"apiVersion": API, "kind": "Restore", "metadata": metadata, "spec": spec})
        status = self._ended("restores", name)
        if status["phase"] != _COMPLETED:
            raise HarnessError(f"restore {name} of {backup} did not succeed: {_why(status)}")
        return status

    def _ended(self, kind: str, name: str) -> dict[str, Any]:
        return await_ended(self._api, kind, name, _ENDED, _DEADLINE_S)

    @cached_property
    def _api(self) -> client.ApiClient:
        return api_client(self.region.kubeconfig)

    @cached_property
    def _files(self) -> Any:  # noqa: ANN401 - pyarrow carries no types
        return RegionStores(self.region, self.engine).files(BACKUP_STORE)


def take_first(region: Region, engine: Engine, formation: Formation) -> None:
    """Take a backup of a formation that has no young one: a schedule takes its first after an hour.

    One formation after the other: what is asked for while Velero is at work is looked at each 20 s only.
    """
    kind = VeleroBackups(region, engine, formation)
    whole = [one for one in kind.backups() if one.problem is None]
    if too_old(whole[-1] if whole else None, kind.every_s, time.time()):
        kind.take()


def _rules(archived: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what a restore changes so that nothing runs, and no port of a node is asked for twice."""
    stopped = {"operation": "replace", "path": "/spec/replicas", "value": "0"}
    rules = [
        {"conditions": {"groupResource": kind}, "patches": [stopped]}
        for kind in ("deployments.apps", "statefulsets.apps")
    ]
    for item in archived:
        ports = item["spec"]["ports"] if item["kind"] == "Service" else []
        asked = [number for number, port in enumerate(ports) if port.get("nodePort")]
        if asked:
            removed = [{"operation": "remove", "path": f"/spec/ports/{number}/nodePort"} for number in asked]
            conditions = {"groupResource": "services", "resourceNameRegex": f"^{item['metadata']['name']}$"}
            rules.append({"conditions": conditions, "patches": removed})
    return rules


def _wall(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _why(status: Mapping[str, Any]) -> str:
    errors = status.get("validationErrors") or []
    counted = f"{status.get('errors', 0)} errors, {status.get('warnings', 0)} warnings"
    return f"{status['phase']}, {status.get('failureReason') or '; '.join(errors) or counted}"


def whole(content: bytes) -> bool:
    """Tell whether bytes are a gzip archive that ends as it should."""
    reader = zlib.decompressobj(wbits=31)
    try:
        reader.decompress(content)
    except zlib.error:
        return False
    return reader.eof
