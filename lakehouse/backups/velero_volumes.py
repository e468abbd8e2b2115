"""The bytes of volumes in a backup of Velero: restored by node agents into scratch pods, and compared with the living.

A pod with an empty volume waits where Velero's own restores have theirs wait; then a node agent fills it, as it would
fill the volume of a restored pod. Etcd is compared by the snapshot that is written into its volume before each backup,
key by key; Kafka byte by byte, by segments.
"""

from __future__ import annotations

import base64
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client

from gameday.errors import DeadlinePassed, HarnessError
from lakehouse.backup import kafka_files
from lakehouse.backup_formation import API, NODE_AGENT
from lakehouse.backups.backup import Verification
from lakehouse.backups.etcd import InPod, compare_with_living
from lakehouse.backups.pod_exec import PodContainer, run_in_pod
from lakehouse.backups.scratch_etcd import CannotRestoreError, contents_of, status_of
from lakehouse.backups.velero_objects import RESTORES_OF_VOLUMES, await_ended, delete, made
from lakehouse.formation import NAMESPACE
from lakehouse.milvus_formation import ETCD, KAFKA

_ENDED = ("Completed", "Failed", "Canceled")
_DEADLINE_S = 300.0
# Velero's own names: of the container that node agents wait for, and of the label with the pod that a volume is for.
_WAITS = "restore-wait"
_POD = "velero.io/pod-uid"
_RESTORED = "/restored"
# Where in its volume each engine keeps its files, as its manifest says.
_KAFKA_FOLDER, _ETCD_SNAPSHOT = "kafka", "snapshot.db"
# What a broker had acknowledged so long before a backup was begun is in it: a write is tried for 10 s.
_ACKNOWLEDGED_MS = 15_000


@dataclass(frozen=True)
class SavedVolume:
    """One volume of a backup: whose it is, and what a node agent is told to restore it."""

    pod: str
    volume: str
    snapshot: str
    repository: str
    uploader: str
    location: str

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> SavedVolume:
        """Read one of a backup's own list; raises KeyError where it lacks something."""
        spec = item["spec"]
        return cls(
            spec["pod"]["name"], spec["volume"], item["status"]["snapshotID"], spec["repoIdentifier"],
            spec["uploaderType"], spec["backupStorageLocation"],
        )  # fmt: skip


@dataclass(frozen=True)
class ScratchVolumes:
    """Volumes of a backup that was begun at `begun_wall` (s), restored into pods of a scratch namespace.

    `in_pod` runs a command where etcd's members can be reached.
    """

    api: client.ApiClient
    in_pod: InPod
    namespace: str
    begun_wall: float

    def verify(self, volumes: Sequence[SavedVolume], say: Callable[[str], None]) -> Verification:
        """Restore each and compare it; raises HarnessError where the harness itself failed."""
        counted: Counter[str] = Counter()
        problems: list[str] = []
        with ExitStack() as left:
            say(f"restore {len(volumes)} volumes into pods of their own")
            agent = client.AppsV1Api(self.api).read_namespaced_daemon_set(NODE_AGENT, NAMESPACE)
            image = agent.spec.template.spec.containers[0].image
            for volume in volumes:
                left.callback(delete, self.api, RESTORES_OF_VOLUMES, self._name(volume))
                self._begin(volume, image)
            until = time.monotonic() + _DEADLINE_S
            for volume in volumes:
                if problem := self._restored(volume, until - time.monotonic()):
                    problems.append(f"the volume of {volume.pod} cannot be restored: {problem}")
                    continue
                say(f"compare the volume of {volume.pod}")
                counts, found = self._compare(volume.pod)
                counted.update({"volumes": 1, **counts})
                problems += [f"the volume of {volume.pod}: {one}" for one in found]
        compared = ", ".join(f"{count} {what}" for what, count in counted.items())
        return Verification(compared or "no volume", tuple(problems))

    def _name(self, volume: SavedVolume) -> str:
        return f"{self.namespace}-{volume.pod}"

    def _begin(self, volume: SavedVolume, image: str) -> None:
        """Make the pod that gets a volume, and ask for the volume."""
        pod = client.CoreV1Api(self.api).create_namespaced_pod(self.namespace, _pod(volume.pod, image))
        uid = pod.metadata.uid
        spec = {
            "pod": {"kind": "Pod", "namespace": self.namespace, "name": volume.pod, "uid": uid},
            "volume": volume.volume,
            "snapshotID": volume.snapshot,
            "repoIdentifier": volume.repository,
            "uploaderType": volume.uploader,
            "backupStorageLocation": volume.location,
            "sourceNamespace": NAMESPACE,
        }
        # by its label the agent of the node finds it once the pod waits there
        metadata = {"name": self._name(volume), "namespace": NAMESPACE, "labels": {_POD: uid}}
        made(
            self.api,
            RESTORES_OF_VOLUMES,
            {"apiVersion": API, "kind": "PodVolumeRestore", "metadata": metadata, "spec": spec},
        )

    def _restored(self, volume: SavedVolume, left_s: float) -> str | None:
        """Wait until a volume is there; tell why it is not, None where it is."""
        name = self._name(volume)
        try:
            status = await_ended(self.api, RESTORES_OF_VOLUMES, name, _ENDED, max(left_s, 1.0))
        except DeadlinePassed as error:
            return str(error)
        return None if status["phase"] == "Completed" else f"{status['phase']}, {status.get('message', '')}"

    def _compare(self, pod: str) -> tuple[Mapping[str, int], Sequence[str]]:
        """Return how much of a pod's volume was compared, of what, and what is wrong with it."""
        part = pod.rpartition("-")[0]
        if part == KAFKA:
            return self._compare_kafka(pod)
        if part == ETCD:
            return self._compare_etcd(pod)
        raise HarnessError(f"nobody knows how the volume of {pod} is compared")

    def _compare_kafka(self, pod: str) -> tuple[Mapping[str, int], Sequence[str]]:
        """Compare the segments of a broker with its living ones, of which they are to be prefixes."""
        program = Path(kafka_files.__file__).read_text(encoding="utf-8")
        python = ("python3", "-c", program)
        copy = PodContainer(self.namespace, pod, _WAITS)
        described = run_in_pod(self.api, copy, (*python, "describe", f"{_RESTORED}/{_KAFKA_FOLDER}"))
        until_ms = str(int(self.begun_wall * 1000) - _ACKNOWLEDGED_MS)
        living = PodContainer(NAMESPACE, pod, "kafka")
        found = run_in_pod(self.api, living, (*python, "compare", f"/data/{_KAFKA_FOLDER}", described, until_ms))
        segments = [one for partition in json.loads(described).values() for one in partition["segments"].values()]
        counts = {"segments of logs": len(segments), "bytes of logs": sum(one["bytes"] for one in segments)}
        return counts, json.loads(found)

    def _compare_etcd(self, pod: str) -> tuple[Mapping[str, int], Sequence[str]]:
        """Compare the snapshot in the volume of a member with the living etcd at its revision."""
        container = PodContainer(self.namespace, pod, _WAITS)
        try:
            content = run_in_pod(self.api, container, ("base64", f"{_RESTORED}/{_ETCD_SNAPSHOT}"))
        except HarnessError as error:
            return {}, [f"{_ETCD_SNAPSHOT} cannot be read: {error}"]
        with tempfile.TemporaryDirectory(prefix="restored-") as folder:
            file = Path(folder) / _ETCD_SNAPSHOT
            file.write_bytes(base64.b64decode(content))
            try:
                revision = int(status_of(file)["revision"])
                restored = contents_of(file, revision)
            except (HarnessError, CannotRestoreError, ValueError, KeyError) as error:
                return {}, [f"{_ETCD_SNAPSHOT} cannot be restored: {error}"]
        count, which, differing = compare_with_living(self.in_pod, restored, revision)
        if not count and not differing:
            differing = [f"none of its {len(restored.keys)} keys is among {which}"]
        return {which: count}, differing


def saved_volumes(items: Iterable[Mapping[str, Any]]) -> list[SavedVolume]:
    """Return the volumes of a backup's own list, by the names of their pods; raises KeyError where one is no such."""
    return sorted((SavedVolume.of(item) for item in items), key=lambda one: one.pod)


def _pod(name: str, image: str) -> dict[str, Any]:
    """Describe a pod that waits for its volume for good, and can be looked into meanwhile."""
    confined = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
        "securityContext": confined,
        "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}},
        "volumeMounts": [{"name": "data", "mountPath": _RESTORED}],
    }
    spec = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "restartPolicy": "Never",
        # whom the files belong to
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "runAsGroup": 65534},
        "volumes": [{"name": "data", "emptyDir": {}}],
        "initContainers": [{**container, "name": _WAITS}],
        "containers": [{**container, "name": "never"}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
