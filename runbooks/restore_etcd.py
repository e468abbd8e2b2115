"""Restore Milvus's metadata: all members of its etcd from one snapshot."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import httpx
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from gameday.errors import HarnessError, UsageError
from gameday.regions import api_client
from gameday.waiting import wait_until
from lakehouse.backup_settings import BACKUP, ETCD_BACKUPS, SNAPSHOTS
from lakehouse.backups.backup import NEWEST, pick
from lakehouse.backups.etcd import EtcdSnapshots
from lakehouse.deploy import deployed, endpoints, not_ready, not_serving
from lakehouse.formation import DATA, NAMESPACE, SERVICE_LABEL
from lakehouse.milvus_formation import ETCD, MEMBERS, MILVUS, NAME, REPLICAS
from runbooks.runbook import Parameter, Runbook, Situation, Step

_STOPPED_DEADLINE_S = 90.0
_RESTORED_DEADLINE_S = 120.0
_READY_DEADLINE_S = 240.0
_NOBODY = 65534
# Messages of the log name the revision of the metadata that they were written with. Those of revisions that are lost
# must not be taken for ones that are still to come, so the next revision lies beyond any that was ever reached, and
# none before it can be asked for: who asks gets what was restored. They are counted by milliseconds, so that this holds
# also for a second restore of the same snapshot.
_BUMPS_PER_S = 1000
# In the pod of one member: what it has is kept beside what is restored, until the next time.
_RESTORE = """\
set -eu
rclone copyto "$FROM" /tmp/snapshot.db
rm -rf /data/new
etcdutl snapshot restore /tmp/snapshot.db --data-dir /data/new --name "$MEMBER" --initial-cluster "$CLUSTER" \\
    --initial-cluster-token milvus --initial-advertise-peer-urls "http://$MEMBER.$SERVICE:2380" \\
    --bump-revision "$BUMP" --mark-compacted
if [ -d /data/etcd ]; then
    rm -rf /data/replaced
    mv /data/etcd /data/replaced
fi
mv /data/new /data/etcd
"""


def _choose(situation: Situation) -> str:
    if MILVUS not in deployed(api_client(situation.region.kubeconfig)):
        raise UsageError(f"Milvus is not deployed in region {situation.region.name}: run `chaos lakehouse up` first")
    listed = EtcdSnapshots(situation.region, situation.engine).backups()
    asked = situation.values["snapshot"]
    chosen = pick(listed, asked)
    if chosen is None:
        raise UsageError(f"there is no snapshot {asked} to restore from: see `chaos backup status etcd`")
    situation.found["snapshot"] = chosen.name
    return f"{chosen.name}, {chosen.age_s(time.time()):.0f} s old"


def _stop_milvus(situation: Situation) -> str:
    apps = _apps(situation)
    apps.patch_namespaced_deployment_scale(NAME, NAMESPACE, {"spec": {"replicas": 0}})
    _await_stopped(situation, NAME)
    return "no replica runs"


def _stop_etcd(situation: Situation) -> str:
    apps = _apps(situation)
    apps.patch_namespaced_stateful_set_scale(ETCD, NAMESPACE, {"spec": {"replicas": 0}})
    _await_stopped(situation, ETCD)
    return "no member runs"


def _restore(situation: Situation) -> str:
    """Restore the same snapshot on the volume of each member, side by side."""
    core = _core(situation)
    situation.found["bump"] = int(time.time() * _BUMPS_PER_S)
    pods = [_pod(situation, number) for number in range(MEMBERS)]
    names = [pod["metadata"]["name"] for pod in pods]
    _remove(core, names)
    try:
        for pod in pods:
            core.create_namespaced_pod(NAMESPACE, pod)
        wait_until("the snapshot to be restored", partial(_unrestored, core, names), deadline_s=_RESTORED_DEADLINE_S)
    finally:
        _remove(core, names)
    return f"{situation.found['snapshot']} on {MEMBERS} volumes; what was there is kept beside it"


def _pod(situation: Situation, number: int) -> dict[str, Any]:
    member = f"{ETCD}-{number}"
    deployment = _apps(situation).read_namespaced_deployment(SNAPSHOTS, NAMESPACE)
    urls = [f"{ETCD}-{one}=http://{ETCD}-{one}.{ETCD}:2380" for one in range(MEMBERS)]
    environment = {
        "FROM": f"store:{ETCD_BACKUPS}/{situation.found['snapshot']}/snapshot.db",
        "MEMBER": member,
        "SERVICE": ETCD,
        "CLUSTER": ",".join(urls),
        "BUMP": str(situation.found["bump"]),
    }
    container = {
        "name": "restore",
        "image": deployment.spec.template.spec.containers[0].image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", _RESTORE],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "envFrom": [{"configMapRef": {"name": SNAPSHOTS}}, {"secretRef": {"name": SNAPSHOTS}}],
        "volumeMounts": [{"name": DATA, "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the pod's
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
    }
    spec = {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsUser": _NOBODY, "runAsGroup": _NOBODY, "fsGroup": _NOBODY},
        "containers": [container],
        "volumes": [
            {"name": DATA, "persistentVolumeClaim": {"claimName": f"{DATA}-{member}"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    metadata = {"name": f"restore-{member}", "labels": {SERVICE_LABEL: BACKUP}}
    return {"metadata": metadata, "spec": spec}


def _unrestored(core: Any, names: list[str]) -> str | None:  # noqa: ANN401 - the Kubernetes client carries no types
    waiting = []
    for name in names:
        phase = core.read_namespaced_pod(name, NAMESPACE).status.phase
        if phase == "Failed":
            said = " ".join(core.read_namespaced_pod_log(name, NAMESPACE, tail_lines=5).split())
            raise HarnessError(f"{name} failed: {said}")
        if phase != "Succeeded":
            waiting.append(f"{name}: {phase}")
    return "; ".join(waiting) or None


def _remove(core: Any, names: list[str]) -> None:  # noqa: ANN401 - the Kubernetes client carries no types
    for name in names:
        try:
            core.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)
        except ApiException as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise HarnessError(f"the pod {name} cannot be removed: {error.reason}") from error


def _start_etcd(situation: Situation) -> str:
    apps = _apps(situation)
    apps.patch_namespaced_stateful_set_scale(ETCD, NAMESPACE, {"spec": {"replicas": MEMBERS}})

    def look() -> str | None:
        ready = apps.read_namespaced_stateful_set(ETCD, NAMESPACE).status.ready_replicas or 0
        return None if ready == MEMBERS else f"{ready} of {MEMBERS} members are ready"

    wait_until("etcd to be ready", look, deadline_s=_READY_DEADLINE_S)
    return f"{MEMBERS} members are ready"


def _start_milvus(situation: Situation) -> str:
    api = api_client(situation.region.kubeconfig)
    _apps(situation).patch_namespaced_deployment_scale(NAME, NAMESPACE, {"spec": {"replicas": REPLICAS}})
    wait_until("Milvus to be ready", lambda: not_ready(api, MILVUS), deadline_s=_READY_DEADLINE_S)
    address = endpoints(situation.region, situation.engine)[NAME]
    wait_until("Milvus to serve", lambda: not_serving(MILVUS, address), deadline_s=_READY_DEADLINE_S)
    return f"it serves at {address}"


def _await_stopped(situation: Situation, app: str) -> None:
    core = _core(situation)

    def look() -> str | None:
        pods = core.list_namespaced_pod(NAMESPACE, label_selector=f"app.kubernetes.io/name={app}").items
        return f"{len(pods)} pods are there" if pods else None

    wait_until(f"the pods of {app} to be gone", look, deadline_s=_STOPPED_DEADLINE_S)


def _core(situation: Situation) -> Any:  # noqa: ANN401 - the Kubernetes client carries no types
    return client.CoreV1Api(api_client(situation.region.kubeconfig))


def _apps(situation: Situation) -> Any:  # noqa: ANN401 - the Kubernetes client carries no types
    return client.AppsV1Api(api_client(situation.region.kubeconfig))


RESTORE_ETCD = Runbook(
    name="restore-etcd",
    title="Restore Milvus's metadata in etcd from a snapshot",
    when="Metadata of Milvus is lost or corrupted, or the volumes of its etcd are. "
    "What was changed after the snapshot is lost.",
    steps=(
        Step("choose-snapshot", "sre", "choose the snapshot to restore from", _choose, _choose),
        Step("stop-milvus", "sre", "stop all replicas, so that nobody writes metadata meanwhile", _stop_milvus),
        Step("stop-etcd", "sre", "stop all members of etcd", _stop_etcd),
        Step("restore-members", "sre", "restore the snapshot on the volume of each member", _restore),
        Step("start-etcd", "sre", "start the members, and wait until they are ready", _start_etcd),
        Step("start-milvus", "sre", "start the replicas, and wait until clients are served", _start_milvus),
    ),
    parameters=(Parameter("snapshot", "the name of one (`chaos backup status etcd`), or `newest`", NEWEST),),
)
