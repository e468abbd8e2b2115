"""The cluster and its lakehouse as users meet them."""

from __future__ import annotations

import csv
import json
import time
import uuid
from pathlib import Path
from urllib.request import urlopen

import pyarrow as pa
import pytest
from kubernetes.client import CoreV1Api
from lab import EXPERIMENTS, Lakehouse, catalogue_of, chaos, run_in_pods

from gameday.engine import find_engine
from gameday.errors import ExitCode
from gameday.machine import cgroup_files, used_s
from gameday.regions import OPT_IN, api_client, mark_opt_in, region_named
from gameday.waiting import wait_until
from lakehouse.provider import LOAD_BALANCER_STATE_PORT
from probes.cluster import NAMESPACE

pytestmark = pytest.mark.cluster


def _chaos(*arguments: str) -> str:
    ran = chaos(*arguments)
    assert ran.code == 0, ran.said
    return ran.stdout


def test_every_zone_has_a_ready_node_of_the_declared_size(mds_alone: Lakehouse) -> None:
    """The status for machines names all nodes with their zones."""
    state = json.loads(_chaos("cluster", "status", "--region", mds_alone.region.name, "--json"))
    assert sorted(item["zone"] for item in state["nodes"] if item["zone"]) == ["zone-a", "zone-b", "zone-c"]
    assert all(item["ready"] for item in state["nodes"])


def test_up_on_a_running_cluster_changes_nothing(mds_alone: Lakehouse) -> None:
    """A second `up` finds everything there."""
    engine = find_engine()
    before = {item.name: item.pid for item in mds_alone.region.nodes(engine)}
    _chaos("cluster", "up", "--region", mds_alone.region.name)
    assert {item.name: item.pid for item in mds_alone.region.nodes(engine)} == before


def test_nodes_share_the_images_that_they_came_with(mds_alone: Lakehouse) -> None:
    """Their files are in the node image, unpacked: none is copied to a node, as an archive or otherwise."""
    engine = find_engine()
    for node in mds_alone.region.nodes(engine):
        store = "/var/lib/containerd"
        assert not engine.call("exec", node.name, "find", f"{store}/io.containerd.content.v1.content", "-size", "+1M")
        links = engine.call("exec", node.name, "find", store, "-type", "l", "-name", "fs").split()
        assert links
        shared = engine.call("exec", node.name, "readlink", "--canonicalize-existing", *links).split()
        assert len(shared) == len(links)
        assert all(path.startswith("/kind/snapshots/") for path in shared)


def test_a_killed_node_comes_back_with_its_address_again_and_again(mds_alone: Lakehouse) -> None:
    """Kill and start three times: the address stays, and pods on the node are reached through the load balancer."""
    engine = find_engine()
    name = f"{mds_alone.region.cluster}-worker"
    (before,) = engine.inspect(name)
    for _ in range(3):
        engine.kill(name)
        engine.start(name)
        (after,) = engine.inspect(name)
        assert after.address == before.address
    core, since = CoreV1Api(api_client(mds_alone.region.kubeconfig)), after.started.replace(microsecond=0)

    def waiting() -> str | None:
        ours = {"field_selector": f"spec.nodeName={name}", "label_selector": "app.kubernetes.io/name=mds"}
        pods = core.list_namespaced_pod(NAMESPACE, **ours).items
        states = [status.state.running for pod in pods for status in pod.status.container_statuses or []]
        old = [state for state in states if state is None or state.started_at < since]
        return f"{len(old)} of {len(states)} containers are those of before" if old else None

    # what the API server says of them is what was before the kill, until kubelet reports
    wait_until("the containers of the killed node to be started again", waiting, deadline_s=60)
    _chaos("lakehouse", "up", "--formation", "mds", "--region", mds_alone.region.name)
    # and it knows the API server without a name server, which may have no answer just after a start
    (server,) = engine.inspect(f"{mds_alone.region.cluster}-control-plane")
    known = engine.call("exec", name, "getent", "--service", "files", "hosts", server.name)
    assert known.split()[0] == server.address


SHARES = """
cd /sys/fs/cgroup
if [ -d cpu/kubelet ]; then cat cpu/kubelet/cpu.shares cpu/system.slice/cpu.shares
else cat kubelet/cpu.weight system.slice/cpu.weight; fi
"""


def test_pods_have_most_of_a_node_while_others_begin(mds_alone: Lakehouse) -> None:
    """What begins containers gets a quarter of what all pods get, also on a node that was killed and started."""
    said = find_engine().call("exec", f"{mds_alone.region.cluster}-worker", "sh", "-c", SHARES)
    pods, system = (int(line) for line in said.split())
    assert pods >= 4 * system


def test_the_provider_s_services_weigh_more_than_nodes(mds_alone: Lakehouse) -> None:
    """They have machines of their own: what nodes begin takes nothing from them."""
    engine = find_engine()
    names = [service.name for service in mds_alone.region.services(engine)]
    said = engine.call("inspect", "--format", "{{.HostConfig.CpuShares}}", *names).split()
    assert [int(one) for one in said] == [8 * 1024] * 5


ASKS = """
import socket
try:
    print("connected", socket.create_connection(("10.96.255.250", 8080), timeout=3).getpeername())
except OSError as error:
    print(type(error).__name__)
"""


def test_a_service_s_address_does_not_leave_its_node(mds_alone: Lakehouse) -> None:
    """One that kube-proxy does not know, or not yet, is refused, on a machine that was killed and started again too."""
    core = CoreV1Api(api_client(mds_alone.region.kubeconfig))
    said = [one.strip() for one in run_in_pods(core, "mds", "python3", "-c", ASKS)]
    # one more while a pod that the kill moved takes its leave
    assert len(said) >= 3
    assert set(said) == {"ConnectionRefusedError"}


def test_the_unmodified_pyiceberg_client_works_through_the_load_balancer(mds_alone: Lakehouse) -> None:
    """Namespace, table, append, scan and drop with pyiceberg's own REST catalogue."""
    catalogue = catalogue_of(mds_alone)
    namespace = f"client_{uuid.uuid4().hex[:8]}"
    catalogue.create_namespace(namespace)
    rows = pa.table({"id": [1, 2, 3], "name": ["a", "b", "c"]})
    table = catalogue.create_table(f"{namespace}.rows", rows.schema)
    table.append(rows)
    found = catalogue.load_table(f"{namespace}.rows").scan().to_arrow()
    assert found.sort_by("id").to_pydict() == rows.to_pydict()
    catalogue.drop_table(f"{namespace}.rows")
    catalogue.drop_namespace(namespace)
    assert (namespace,) not in catalogue.list_namespaces()


def test_the_load_balancer_waits_in_peace_for_formations_that_are_not_there(mds_alone: Lakehouse) -> None:
    """Nobody is behind the ports of all but one, as while a lakehouse begins; that took a fifth of a core."""
    (balancer,) = find_engine().inspect(f"{mds_alone.region.cluster}-load-balancer")
    with urlopen(f"http://{balancer.address}:{LOAD_BALANCER_STATE_PORT}/stats;csv", timeout=5) as answer:
        lines = csv.DictReader(answer.read().decode().removeprefix("# ").splitlines())
    states = {line["pxname"]: line["status"] for line in lines if line["svname"] == "BACKEND"}
    assert states["mds"] == "UP"
    assert states["presto"] == states["spark"] == "DOWN"
    (counter,) = cgroup_files([balancer.pid])
    before = used_s(counter)
    time.sleep(5)
    assert used_s(counter) - before < 0.5


def test_an_experiment_on_an_engine_that_is_not_deployed_is_refused(mds_alone: Lakehouse, tmp_path: Path) -> None:
    """One sentence says what to do, and nothing is touched."""
    experiment = str(EXPERIMENTS["zone-with-neither"])
    ran = chaos("run", "--region", mds_alone.region.name, "--runs", str(tmp_path / "runs"), experiment)
    assert ran.code == ExitCode.USAGE, ran.said
    assert "is about milvus, which is not deployed: run `chaos lakehouse up" in ran.stderr
    assert not (tmp_path / "runs").exists()


def test_a_second_region_comes_beside_the_first_and_goes_without_a_trace(mds_alone: Lakehouse, tmp_path: Path) -> None:
    """Regions do not see each other, and `down` leaves no container, network, volume or file of its own."""
    engine, second = mds_alone.engine, region_named("second")
    before = {item.name: item.pid for item in mds_alone.region.nodes(engine)}
    volumes = set(engine.call("volume", "ls", "--quiet").split())
    _chaos("cluster", "up", "--region", second.name)
    assert len(second.nodes(engine)) == len(before)
    # a kubeconfig by which another cluster would be watched than is broken
    api = api_client(second.kubeconfig)
    CoreV1Api(api).delete_namespaced_config_map(OPT_IN, "kube-system")
    mark_opt_in(api, mds_alone.region.name)
    experiment, runs = str(EXPERIMENTS["zone-with-neither"]), tmp_path / "runs"
    region = ("--region", mds_alone.region.name, "--runs", str(runs))
    ran = chaos("run", *region, "--kubeconfig", str(second.kubeconfig), experiment)
    assert ran.code == ExitCode.USAGE, ran.said
    assert "leads to another cluster than that of region" in ran.stderr
    assert not runs.exists()
    _chaos("cluster", "down", "--region", second.name)
    assert second.nodes(engine) == []
    assert not engine.succeeds("network", "inspect", second.network)
    assert set(engine.call("volume", "ls", "--quiet").split()) == volumes
    assert not second.kubeconfig.exists()
    assert {item.name: item.pid for item in mds_alone.region.nodes(engine)} == before
