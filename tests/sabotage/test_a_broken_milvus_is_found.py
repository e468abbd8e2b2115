"""It can fail: a Milvus whose metadata or whose replicas are in one zone alone is found broken when that is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from lab import Lakehouse
from shortening import shorten, without

from gameday.errors import ExitCode
from gameday.regions import api_client
from gameday.topology import ZONE_LABEL
from gameday.waiting import wait_until
from lakehouse.milvus_formation import ETCD, MEMBERS, NAME, REPLICAS
from probes.cluster import NAMESPACE

# Milvus alone, so last of all: the other formations go when it comes.
pytestmark = [pytest.mark.cluster, pytest.mark.last]
PROMISE = "S5.milvus.active-active"
_DEADLINE_S = 120.0


@pytest.fixture
def apps(milvus_alone: Lakehouse) -> client.AppsV1Api:
    """Return the API of Deployments and StatefulSets."""
    return client.AppsV1Api(api_client(milvus_alone.region.kubeconfig))


@pytest.fixture
def core(milvus_alone: Lakehouse) -> client.CoreV1Api:
    """Return the core API."""
    return client.CoreV1Api(api_client(milvus_alone.region.kubeconfig))


def lose(lakehouse: Lakehouse, folder: Path, zone: str) -> tuple[str, dict[str, Any]]:
    """Lose a zone under the load of Milvus, for a little longer than metadata may pause; return what became of it."""
    experiment = shorten(
        folder, "zone-with-neither", engines=("milvus",), promises=(PROMISE,), observe_s=10, baseline_s=22
    )
    # what is broken does not come back in healthy zones
    without(experiment, "await_recovery", "wait_")
    experiment.write_text(experiment.read_text().replace("zone-b", zone))
    ran, verdicts = lakehouse.run(experiment, folder / "runs")
    assert ran.code == ExitCode.BROKEN, ran.said
    return ran.said, verdicts[PROMISE]


def test_replicas_all_in_one_zone_break_the_promise(
    milvus_alone: Lakehouse, apps: client.AppsV1Api, tmp_path: Path
) -> None:
    """With no leave to move, nobody reads metadata once their zone is lost."""
    bound = {"nodeSelector": {ZONE_LABEL: "zone-c"}, "topologySpreadConstraints": None}
    strategy = {"type": "Recreate", "rollingUpdate": None}
    patch = {"spec": {"strategy": strategy, "template": {"spec": bound}}}
    apps.patch_namespaced_deployment(NAME, NAMESPACE, patch)
    try:
        rolled_out(f"{REPLICAS} replicas in zone-c", lambda: apps.read_namespaced_deployment(NAME, NAMESPACE), REPLICAS)
        said, verdict = lose(milvus_alone, tmp_path, "zone-c")
    finally:
        apps.delete_namespaced_deployment(NAME, NAMESPACE)
        milvus_alone.deploy()
    assert verdict["verdict"] == "broken", said
    assert "no reads of metadata succeeded" in verdict["reason"].lower()


def test_metadata_on_one_member_breaks_the_promise(
    milvus_alone: Lakehouse, apps: client.AppsV1Api, core: client.CoreV1Api, tmp_path: Path
) -> None:
    """Each member of etcd is made a cluster of its own, and Milvus is told of the first alone, which is lost."""
    (container,) = apps.read_namespaced_stateful_set(ETCD, NAMESPACE).spec.template.spec.containers
    alone = {"name": container.name, "command": [*container.command, "--force-new-cluster"]}
    apps.patch_namespaced_stateful_set(ETCD, NAMESPACE, {"spec": {"template": {"spec": {"containers": [alone]}}}})
    restart(core, ETCD)
    rolled_out("members alone", lambda: apps.read_namespaced_stateful_set(ETCD, NAMESPACE), MEMBERS)
    core.patch_namespaced_config_map(NAME, NAMESPACE, {"data": {"MILVUS_ETCD_ENDPOINTS": f"{ETCD}-0.{ETCD}:2379"}})
    restart(core, NAME)
    rolled_out("replicas of one member", lambda: apps.read_namespaced_deployment(NAME, NAMESPACE), REPLICAS)
    node = core.read_namespaced_pod(f"{ETCD}-0", NAMESPACE).spec.node_name
    zone = core.read_node(node).metadata.labels[ZONE_LABEL]
    said, verdict = lose(milvus_alone, tmp_path, zone)
    assert verdict["verdict"] == "broken", said
    assert "of metadata succeeded for" in verdict["reason"]


def restart(core: client.CoreV1Api, name: str) -> None:
    """Delete all pods of a part of Milvus at once, and wait until they are gone."""
    label = f"app.kubernetes.io/name={name}"
    before = {pod.metadata.uid for pod in core.list_namespaced_pod(NAMESPACE, label_selector=label).items}
    core.delete_collection_namespaced_pod(NAMESPACE, label_selector=label, grace_period_seconds=0)

    def look() -> str | None:
        there = {pod.metadata.uid for pod in core.list_namespaced_pod(NAMESPACE, label_selector=label).items}
        return f"{len(there & before)} are there" if there & before else None

    wait_until(f"the pods of {name} to be gone", look, deadline_s=_DEADLINE_S)


def rolled_out(what: str, read: Callable[[], Any], wanted: int) -> None:
    """Wait until all pods are ready and of the newest template."""

    def look() -> str | None:
        status = read().status
        counts = (status.updated_replicas, status.ready_replicas, status.replicas)
        return None if counts == (wanted, wanted, wanted) else f"{counts} updated, ready, there"

    wait_until(what, look, deadline_s=_DEADLINE_S)
