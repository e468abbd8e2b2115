"""It can fail: a lakehouse that breaks its promises is found broken, and a fault that did nothing proves nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from lab import Lakehouse, Shortened, command
from shortening import without

from gameday.errors import ExitCode
from gameday.regions import api_client
from gameday.waiting import wait_until
from probes.cluster import NAMESPACE

pytestmark = pytest.mark.cluster
type Patch = Callable[[dict[str, Any]], None]


@pytest.fixture
def deployment(mds_alone: Lakehouse) -> Iterator[Patch]:
    """Return a function that patches the Deployment of MDS and waits for it; afterwards it is made anew."""
    api = api_client(mds_alone.region.kubeconfig)
    apps = client.AppsV1Api(api)

    def patch(template: dict[str, Any]) -> None:
        # by deletion: other requests, and pods that may only be where the old ones are, cannot be rolled out
        apps.patch_namespaced_deployment("mds", NAMESPACE, {"spec": {"replicas": 0}})
        apps.patch_namespaced_deployment("mds", NAMESPACE, {"spec": {"template": {"spec": template}}})
        wait_until("all pods to be gone", lambda: _pods_left(api), deadline_s=60)
        apps.patch_namespaced_deployment("mds", NAMESPACE, {"spec": {"replicas": 3}})
        wait_until("the patched Deployment", lambda: _unready(apps), deadline_s=120)

    yield patch
    apps.delete_namespaced_deployment("mds", NAMESPACE)
    wait_until("all pods to be gone", lambda: _pods_left(api), deadline_s=60)
    mds_alone.deploy()


def _pods_left(api: client.ApiClient) -> str | None:
    pods = client.CoreV1Api(api).list_namespaced_pod(NAMESPACE, label_selector="app.kubernetes.io/name=mds").items
    return f"{len(pods)} left" if pods else None


def _unready(apps: client.AppsV1Api) -> str | None:
    ready = apps.read_namespaced_deployment("mds", NAMESPACE).status.ready_replicas or 0
    return None if ready == 3 else f"{ready} ready"


def test_replicas_bound_to_the_lost_zone_break_the_promise_of_one_zone(
    mds_alone: Lakehouse, deployment: Patch, shortened: Shortened, tmp_path: Path
) -> None:
    """All replicas in one zone with no leave to move: losing it breaks S5.mds.one-zone, exit code 1."""
    small = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}
    deployment(
        {
            "nodeSelector": {"topology.kubernetes.io/zone": "zone-b"},
            "topologySpreadConstraints": None,
            "containers": [{"name": "mds", "resources": small}],
        }
    )
    path = shortened("zone-with-neither", promises=("S5.mds.one-zone",), observe_s=12, baseline_s=10)
    # nobody comes back while the zone is lost, so that is not waited for
    experiment = without(path, "await_recovery", "wait_")
    ran, verdicts = mds_alone.run(experiment, tmp_path / "runs")
    assert verdicts["S5.mds.one-zone"]["verdict"] == "broken", ran.said
    assert ran.code == ExitCode.BROKEN


def test_replicas_without_a_limit_break_the_promise_of_two_zones(
    mds_alone: Lakehouse, shortened: Shortened, tmp_path: Path
) -> None:
    """One replica without its limit carries the whole load: no impact with two zones lost, exit code 1."""
    mds_alone.deploy(max_concurrent_requests=0)
    try:
        experiment = shortened("two-zones", promises=("S5.mds.two-zones",), observe_s=20, baseline_s=10)
        experiment = without(experiment, "await_recovery")
        ran, verdicts = mds_alone.run(experiment, tmp_path / "runs")
    finally:
        mds_alone.deploy()
    assert verdicts["S5.mds.two-zones"]["verdict"] == "broken", ran.said
    assert ran.code == ExitCode.BROKEN


def test_a_fault_that_does_nothing_is_inconclusive(mds_alone: Lakehouse, shortened: Shortened, tmp_path: Path) -> None:
    """An injection that returns without having broken anything is found out by the proof: inconclusive, exit code 2."""
    promises = ("S5.mds.two-zones", "S5.customer")
    experiment = without(shortened("two-zones", promises=promises, observe_s=10, baseline_s=5), "await_recovery")
    program = Path(__file__).with_name("chaos_with_an_idle_fault.py")
    options = ["--region", mds_alone.region.name, "--runs", str(tmp_path / "runs")]
    ran = command(sys.executable, str(program), "run", *options, str(experiment))
    assert ran.code == ExitCode.INCONCLUSIVE, ran.said
    assert "not proved" in ran.said


def test_a_probe_that_raises_is_never_a_success(mds_alone: Lakehouse, shortened: Shortened, tmp_path: Path) -> None:
    """Chaos Toolkit calls a run with a failed probe completed; here it is a harness error, exit code 3."""
    path = shortened("zone-drain", promises=("S5.customer",), observe_s=5, baseline_s=5)
    document = yaml.safe_load(without(path, "await_recovery").read_text())
    raising = {
        "type": "probe",
        "name": "ask for what cannot be asked",
        "provider": {
            "type": "python",
            "module": "probes.cluster",
            "func": "formation_ready",
            "arguments": {"formation": "no label, this", "replicas": 1},
        },
    }
    document["method"].insert(2, raising)
    experiment = tmp_path / "raising.yaml"
    experiment.write_text(yaml.safe_dump(document, sort_keys=False))
    ran, _ = mds_alone.run(experiment, tmp_path / "runs")
    assert ran.code == ExitCode.HARNESS_ERROR, ran.said
    assert "ask for what cannot be asked" in ran.said
