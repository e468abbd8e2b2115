"""It can fail: Presto, Spark and a cluster that break their promises are found broken, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.utils.quantity import parse_quantity
from lab import Lakehouse, Ran, bucket_of
from shortening import hurried, shorten, without

from gameday.errors import ExitCode
from gameday.paths import PROJECT
from gameday.regions import api_client
from gameday.waiting import wait_until
from lakehouse.provider import BUCKET
from probes.cluster import NAMESPACE

pytestmark = [pytest.mark.cluster, pytest.mark.needs("mds", "spark")]
type Outcome = tuple[Ran, dict[str, dict[str, Any]]]

# By then whatever comes back has come back (MDS takes 25 to 40 s, Presto 35 to 50 s, executors 25 s).
HURRY_S = 56.0
# What Spark does for a lost executor it does at this interval, and for those that a job begins with at once.
NO_REPLACEMENT = {"spark.kubernetes.allocation.batch.delay": "900s"}
MIB = 2**20
FILLER = "app.kubernetes.io/name=filler"
# What is left in the zones that stay: in the first a job's driver (768 MiB) and executor (704 MiB) and no more.
ROOM_MIB = {"zone-a": 1504, "zone-c": 32}


@pytest.fixture(scope="module")
def without_replacement(lakehouse: Lakehouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """Return the run in which executors are lost and Spark asks for no others."""
    folder = tmp_path_factory.mktemp("without-replacement")
    promises = ("S5.all.capacity", "S5.all.rescheduled", "S5.mds.one-zone", "S5.spark.executors")
    # the job ends soon after the fault
    hurry = {"deadline_s": HURRY_S, "pace_s": 2.0, "baseline_s": 17}
    experiment = shorten(folder, "zone-with-executors", engines=("mds", "spark"), promises=promises, **hurry)
    lakehouse.deploy(spark_conf=NO_REPLACEMENT)
    try:
        yield lakehouse.run(experiment, folder / "runs", "--contract", str(hurried(folder, HURRY_S)))
    finally:
        # at the end of the module: no other of its tests loses executors
        if not lakehouse.made:
            lakehouse.deploy()


def test_executors_that_are_not_replaced_break_the_promise(without_replacement: Outcome) -> None:
    """With Spark's replacement of executors disabled, S5.spark.executors is broken, exit code 1."""
    ran, verdicts = without_replacement
    assert verdicts["S5.spark.executors"]["verdict"] == "broken", ran.said
    assert ran.code == ExitCode.BROKEN


def test_executors_that_are_not_replaced_break_no_other_promise(without_replacement: Outcome) -> None:
    """The other engines, and the formations, keep theirs."""
    ran, verdicts = without_replacement
    others = {name: item["verdict"] for name, item in verdicts.items() if name != "S5.spark.executors"}
    assert set(others.values()) == {"held"}, ran.said


@pytest.fixture(scope="module")
def full_and_wrong(lakehouse: Lakehouse, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Return the run on a cluster that is too full, in which a Spark job elsewhere returns a wrong result."""
    folder = tmp_path_factory.mktemp("full-and-wrong")
    promises = ("S5.all.capacity", "S5.spark.elsewhere")
    # a job that ends with a wrong result need not last, and what does not fit is known at once
    short = {"observe_s": 20, "baseline_s": 17, "pace_s": 1.0}
    experiment = shorten(folder, "zone-with-neither", engines=("mds", "spark"), promises=promises, **short)
    # a formation that finds no room is not back before the zone is
    document = yaml.safe_load(without(experiment, "await_recovery", "wait_").read_text())
    job = document["method"][0]["provider"]["arguments"]["jobs"][0]
    job |= {"application": _wrong_program(lakehouse), "executor_zones": {"required": job["driver_zones"]}}
    experiment.write_text(yaml.safe_dump(document, sort_keys=False))
    core = client.CoreV1Api(api_client(lakehouse.region.kubeconfig))
    try:
        for zone, room in ROOM_MIB.items():
            core.create_namespaced_pod(NAMESPACE, _filler(core, zone, room))
        wait_until("the cluster to be full", lambda: _not_full(core), deadline_s=60)
        return lakehouse.run(experiment, folder / "runs")
    finally:
        # before any other test of this module, which needs the room
        core.delete_collection_namespaced_pod(NAMESPACE, label_selector=FILLER, grace_period_seconds=0)


def test_a_cluster_too_full_breaks_the_promise_of_capacity(full_and_wrong: Outcome) -> None:
    """Where the lost pods have no room in the other zones, S5.all.capacity is broken."""
    ran, verdicts = full_and_wrong
    assert verdicts["S5.all.capacity"]["verdict"] == "broken", ran.said
    assert ran.code == ExitCode.BROKEN


def test_a_job_with_a_wrong_result_is_caught(full_and_wrong: Outcome) -> None:
    """A job that ends in peace with another result than an undisturbed run breaks S5.spark.elsewhere."""
    ran, verdicts = full_and_wrong
    assert verdicts["S5.spark.elsewhere"]["verdict"] == "broken", ran.said
    assert "result" in verdicts["S5.spark.elsewhere"]["reason"]


@pytest.mark.needs("mds", "presto")
@pytest.mark.last
def test_workers_bound_to_the_lost_zone_break_the_promise_of_presto(lakehouse: Lakehouse, tmp_path: Path) -> None:
    """Presto's workers that may only be in the lost zone do not come back: S5.presto.rescheduled is broken."""
    apps = client.AppsV1Api(api_client(lakehouse.region.kubeconfig))
    bound = {"nodeSelector": {"topology.kubernetes.io/zone": "zone-b"}, "topologySpreadConstraints": None}
    # all at once: rolled out one by one they would take a minute and more
    strategy = {"type": "Recreate", "rollingUpdate": None}
    patch = {"spec": {"strategy": strategy, "template": {"spec": bound}}}
    apps.patch_namespaced_deployment("presto-worker", NAMESPACE, patch)
    try:
        wait_until("the bound workers", lambda: _not_rolled_out(apps), deadline_s=180)
        experiment = shorten(
            tmp_path,
            "zone-with-neither",
            engines=("mds", "presto"),
            promises=("S5.presto.rescheduled", "S5.mds.one-zone"),
            deadline_s=HURRY_S,
        )
        # workers that may be nowhere else leave their queries slow for minutes, also after the zone returned
        experiment, contract = without(experiment, "await_recovery", "wait_"), hurried(tmp_path, HURRY_S)
        ran, verdicts = lakehouse.run(experiment, tmp_path / "runs", "--contract", str(contract))
    finally:
        apps.delete_namespaced_deployment("presto-worker", NAMESPACE)
        # nothing comes after it but the end of a cluster that was made for the tests
        if not lakehouse.made:
            lakehouse.deploy()
    assert verdicts["S5.presto.rescheduled"]["verdict"] == "broken", ran.said
    assert verdicts["S5.mds.one-zone"]["verdict"] == "held", ran.said
    assert ran.code == ExitCode.BROKEN


def _not_rolled_out(apps: client.AppsV1Api) -> str | None:
    seen = apps.read_namespaced_deployment("presto-worker", NAMESPACE)
    counts = (seen.status.updated_replicas, seen.status.ready_replicas, seen.status.replicas)
    return None if counts == (3, 3, 3) else f"{counts} updated, ready, there"


def _wrong_program(lakehouse: Lakehouse) -> str:
    """Put the job's program into the object store with a mistake in it, and return its URL there."""
    text = (PROJECT / "lakehouse" / "spark" / "jobs" / "paced_sums.py").read_text()
    # every row counts for one more than it is
    wrong = text.replace("if(paused, 1L, 0L)", "1L + if(paused, 1L, 0L)")
    assert wrong != text
    with bucket_of(lakehouse).open_output_stream(f"{BUCKET}/apps/wrong_sums.py") as stream:
        stream.write(wrong.encode())
    return f"s3a://{BUCKET}/apps/wrong_sums.py"


def _filler(core: client.CoreV1Api, zone: str, room_mib: int) -> dict[str, Any]:
    """Return a pod that asks for all memory of a zone's node that is not asked for yet but this room; it does nothing.

    What is free differs from zone to zone: pods that a zone outage moved stay where they are.
    """
    node = core.list_node(label_selector=f"topology.kubernetes.io/zone={zone}").items[0]
    pods = core.list_pod_for_all_namespaces(field_selector=f"spec.nodeName={node.metadata.name}").items
    asked = sum(_asked_mib(pod) for pod in pods if pod.status.phase in ("Pending", "Running"))
    free = int(parse_quantity(node.status.allocatable["memory"]) / MIB) - asked
    assert free > room_mib, f"{zone} has {free} MiB left, the test needs {room_mib}"
    mds = client.AppsV1Api(core.api_client).read_namespaced_deployment("mds", NAMESPACE)
    image = mds.spec.template.spec.containers[0].image
    container: dict[str, Any] = {"name": "filler", "image": image, "command": ["sleep", "infinity"]}
    container["resources"] = {"requests": {"memory": f"{free - room_mib}Mi"}}
    labels = dict([FILLER.split("=")])
    spec = {"nodeName": node.metadata.name, "terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"metadata": {"name": f"filler-{zone}", "labels": labels}, "spec": spec}


def _asked_mib(pod: client.V1Pod) -> int:
    asked = [(one.resources.requests or {}).get("memory", "0") for one in pod.spec.containers]
    return int(sum(map(parse_quantity, asked)) / MIB)


def _not_full(core: client.CoreV1Api) -> str | None:
    pods = core.list_namespaced_pod(NAMESPACE, label_selector=FILLER).items
    running = [pod.metadata.name for pod in pods if pod.status.phase == "Running"]
    return None if len(running) == len(ROOM_MIB) else f"only {running} run"
