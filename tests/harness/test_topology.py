"""The topology: what kind-config.yaml declares, and the cluster that is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gameday.errors import UsageError
from gameday.paths import PROJECT
from gameday.topology import host_size, kind_config, load_topology

CONFIG = PROJECT / "kind-config.yaml"


def test_the_project_declares_three_zones_of_one_node_each() -> None:
    """The region that ships with the project has a control plane and three zones."""
    topology = load_topology(CONFIG)
    assert topology.zones == ("zone-a", "zone-b", "zone-c")
    assert [node["role"] for node in topology.config["nodes"]].count("control-plane") == 1


def test_what_is_reserved_leaves_a_node_its_declared_size() -> None:
    """Kubelet takes the machine for its node; the reservation is the machine less two cores and 5 Gi."""
    config = kind_config(load_topology(CONFIG), "east", ("control", "worker"), cgroup_v1=True)
    worker = next(node for node in config["nodes"] if node["role"] == "worker")
    (patch,) = worker["kubeadmConfigPatchesJSON6902"]
    (operation,) = yaml.safe_load(patch["patch"])
    cores, memory = host_size()
    assert operation["value"] == {
        "name": "system-reserved",
        "value": f"cpu={cores * 1000 - 2000}m,memory={memory - 5 * 2**30}",
    }
    assert worker["labels"]["topology.kubernetes.io/region"] == "east"
    assert worker["image"] == "worker"


def test_cgroup_v1_is_allowed_only_where_the_machine_has_it() -> None:
    """On a machine with cgroup v2 kubelet keeps its refusal of cgroup v1."""
    topology = load_topology(CONFIG)
    with_v1 = kind_config(topology, "east", None, cgroup_v1=True)["kubeadmConfigPatches"]
    with_v2 = kind_config(topology, "east", None, cgroup_v1=False)["kubeadmConfigPatches"]
    assert any("failCgroupV1: false" in patch for patch in with_v1)
    assert not any("failCgroupV1" in patch for patch in with_v2)


def test_the_declared_detection_times_are_listed_for_the_report() -> None:
    """What decides how soon a dead node is noticed is read from the file and not written twice."""
    declared = load_topology(CONFIG).declared
    assert declared["controllerManager.node-monitor-grace-period"] == "12s"
    assert declared["apiServer.default-unreachable-toleration-seconds"] == "5"
    assert declared["kubelet.nodeLeaseDurationSeconds"] == "8"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nodes: [", "is not YAML"),
        ("kind: Cluster", "no list `nodes`"),
        ("nodes: [{role: control-plane}]", "no worker"),
        ("nodes: [{role: worker, labels: {}}]", "lacks the label topology.kubernetes.io/zone"),
    ],
)
def test_a_bad_topology_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    """A topology that cannot be used is refused with its path and what is wrong."""
    path = tmp_path / "kind.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        load_topology(path)


@pytest.mark.parametrize(
    ("cpu", "says"),
    [
        ('"4096"', "larger than this machine"),
        ("two", "not 'two' and '5Gi'"),
        ("NaN", "not 'NaN' and '5Gi'"),
        ('"0"', "more than nothing"),
    ],
)
def test_a_size_that_no_node_can_have_is_refused(tmp_path: Path, cpu: str, says: str) -> None:
    """A size that the machine cannot give is said before a cluster is made."""
    path = tmp_path / "kind.yaml"
    path.write_text(CONFIG.read_text().replace("lakehouse-chaos/cpu: 2000m", f"lakehouse-chaos/cpu: {cpu}"))
    with pytest.raises(UsageError, match=says):
        kind_config(load_topology(path), "east", None, cgroup_v1=False)
