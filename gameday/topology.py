"""The topology of a region as `kind-config.yaml` declares it, and what has to be added to it to make a cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes.utils.quantity import parse_quantity

from gameday.errors import UsageError

ZONE_LABEL = "topology.kubernetes.io/zone"
REGION_LABEL = "topology.kubernetes.io/region"
_CPU_LABEL = "lakehouse-chaos/cpu"
_MEMORY_LABEL = "lakehouse-chaos/memory"


@dataclass(frozen=True)
class Topology:
    """One region: `config` is kind's own, `zones` the names of its zones in the order of the file."""

    config: dict[str, Any]
    zones: tuple[str, ...]

    @property
    def declared(self) -> dict[str, str]:
        """What decides how soon a failure is noticed, by the name of its setting, for the report."""
        figures: dict[str, str] = {}
        for patch in self.config.get("kubeadmConfigPatches", []):
            document = yaml.safe_load(patch)
            if document.get("kind") == "KubeletConfiguration":
                figures |= {f"kubelet.{key}": str(value) for key, value in document.items() if key != "kind"}
            for part in ("apiServer", "controllerManager"):
                for argument in document.get(part, {}).get("extraArgs", []):
                    figures[f"{part}.{argument['name']}"] = str(argument["value"])
        return figures


def load_topology(path: Path) -> Topology:
    """Read kind's configuration of a region; raises UsageError where it is missing, no YAML, or has no zones."""
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(f"the topology {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"the topology {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict) or not isinstance(config.get("nodes"), list):
        raise UsageError(f"the topology {path} has no list `nodes`")
    workers = [node for node in config["nodes"] if node.get("role") == "worker"]
    zones = []
    for number, node in enumerate(workers, start=1):
        labels = node.get("labels") or {}
        missing = [label for label in (ZONE_LABEL, _CPU_LABEL, _MEMORY_LABEL) if label not in labels]
        if missing:
            raise UsageError(f"worker {number} in {path} lacks the label {missing[0]}")
        zones.append(str(labels[ZONE_LABEL]))
    if not zones:
        raise UsageError(f"the topology {path} has no worker, so no zone")
    return Topology(config, tuple(dict.fromkeys(zones)))


def host_size() -> tuple[int, int]:
    """Return (cores, bytes of memory) of this machine, which is what every kubelet takes its node to have."""
    return os.cpu_count() or 1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _reservation(labels: dict[str, Any]) -> str:
    """Return what kubelet must reserve so that what is left for pods is the node's declared size."""
    cores, memory = host_size()
    cpu, size = str(labels[_CPU_LABEL]), str(labels[_MEMORY_LABEL])
    try:
        asked_cpu, asked_memory = parse_quantity(cpu), parse_quantity(size)
        something = min(asked_cpu, asked_memory) > 0
    except (ValueError, ArithmeticError) as error:
        raise UsageError(f"a node's size is two quantities like 1500m and 5Gi, not {cpu!r} and {size!r}") from error
    if not something:
        raise UsageError(f"a node has more than nothing, not {cpu!r} and {size!r}")
    spare_cpu, spare_memory = cores - asked_cpu, memory - asked_memory
    if spare_cpu < 0 or spare_memory < 0:
        raise UsageError(f"a node of {cpu} cores and {size} is larger than this machine ({cores}, {memory >> 20} Mi)")
    return f"cpu={int(spare_cpu * 1000)}m,memory={int(spare_memory)}"


def kind_config(topology: Topology, region: str, images: tuple[str, str] | None, *, cgroup_v1: bool) -> dict[str, Any]:
    """Return kind's configuration of a cluster: the topology with region, sizes, and images (control plane, worker).

    Without images kind takes those of its own release.
    """
    nodes = []
    for node in topology.config["nodes"]:
        made = dict(node)
        if images:
            made["image"] = images[0] if node["role"] == "control-plane" else images[1]
        if node["role"] == "worker":
            made["labels"] = {**node["labels"], REGION_LABEL: region}
            made["kubeadmConfigPatchesJSON6902"] = [_reserve(_reservation(node["labels"]))]
        nodes.append(made)
    patches = list(topology.config.get("kubeadmConfigPatches", []))
    if images:
        # the built image's containerd has the cgroupfs driver
        patches.append("kind: KubeletConfiguration\ncgroupDriver: cgroupfs\n")
    if cgroup_v1:
        patches.append("kind: KubeletConfiguration\nfailCgroupV1: false\n")
    return {**topology.config, "nodes": nodes, "kubeadmConfigPatches": patches}


def _reserve(reserved: str) -> dict[str, str]:
    # appended, for a merge patch would replace the whole list and lose kind's own node labels
    patch = [
        {
            "op": "add",
            "path": "/nodeRegistration/kubeletExtraArgs/-",
            "value": {"name": "system-reserved", "value": reserved},
        }
    ]
    return {
        "group": "kubeadm.k8s.io",
        "version": "v1beta4",
        "kind": "JoinConfiguration",
        "patch": yaml.safe_dump(patch),
    }
