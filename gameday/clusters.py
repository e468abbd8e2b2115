"""Clusters: a region's Kubernetes by kind, brought up, taken down, and looked at."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from gameday.engine import Container, Engine, find_engine
from gameday.errors import DeadlinePassed, HarnessError, UsageError
from gameday.paths import PROJECT
from gameday.regions import Region, api_client, mark_opt_in
from gameday.shell import run
from gameday.topology import ZONE_LABEL, kind_config, load_topology
from gameday.waiting import wait_until
from nodeimage.programs import kind_program
from nodeimage.steps import log_file, say, step, together

TOPOLOGY = PROJECT / "kind-config.yaml"
_READY_DEADLINE_S = 120.0
_WHOLE_DEADLINE_S = 60.0
_CREATE_DEADLINE_S = 300.0
_INOTIFY_INSTANCES = 1024
_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")


@dataclass(frozen=True)
class NodeState:
    """One node as the API server and the engine see it; `ready` is None where there is no Node object."""

    name: str
    zone: str | None
    container: str
    ready: bool | None


def cgroup_v1() -> bool:
    """Tell whether this machine has cgroup v1, which kubelet has to be allowed to use."""
    return not Path("/sys/fs/cgroup/cgroup.controllers").exists()


def kind_command(
    engine: Engine, *arguments: str, deadline_s: float = 60.0, log: Path | None = None, network: str = ""
) -> str:
    """Run kind with the region's engine: the one on PATH, else the one compiled from its module."""
    program = shutil.which("kind") or str(kind_program())
    environment = dict(engine.environment)
    if network:
        environment[f"KIND_EXPERIMENTAL_{engine.name.upper()}_NETWORK"] = network
    return run([program, *arguments], environment=environment, deadline_s=deadline_s, log=log).stdout


def prepare_host() -> None:
    """Give the machine what several nodes on it need: as root it is done and said, else what to do is said."""
    found = int(_INOTIFY.read_text())
    setting = f"fs.inotify.max_user_instances={_INOTIFY_INSTANCES}"
    wanted = found < _INOTIFY_INSTANCES
    if wanted and os.geteuid() == 0:
        say(f"  → {setting} (was {found}): four nodes need more")
        _INOTIFY.write_text(str(_INOTIFY_INSTANCES))
    elif wanted:
        say(f"  ! four nodes need more inotify instances than {found}: run `sysctl {setting}` as root")
    modules = Path("/lib/modules")
    if not modules.exists() and os.geteuid() == 0:
        say("  → make /lib/modules: kind mounts it into every node")
        modules.mkdir()


def node_states(region: Region, engine: Engine) -> list[NodeState]:
    """Return the state of every node of a region; none where the region is not up."""
    containers = region.nodes(engine)
    seen: dict[str, Any] = {}
    if containers and region.kubeconfig.exists():
        try:
            listing = client.CoreV1Api(api_client(region.kubeconfig)).list_node(_request_timeout=5)
            seen = {node.metadata.name: node for node in listing.items}
        except (ApiException, HTTPError):
            seen = {}
    return [
        NodeState(
            name=item.name,
            zone=(seen[item.name].metadata.labels or {}).get(ZONE_LABEL) if item.name in seen else None,
            container=item.state,
            ready=is_ready(seen[item.name]) if item.name in seen else None,
        )
        for item in containers
    ]


def is_ready(node: Any) -> bool:  # noqa: ANN401 - the Kubernetes client carries no types
    """Tell whether a Node object says that its node is ready."""
    return any(item.type == "Ready" and item.status == "True" for item in node.status.conditions or [])


def up(region: Region, images: Callable[[Engine], tuple[str, str] | None]) -> bool:
    """Bring a region's cluster up; returns False where it was up already and nothing was changed.

    `images` gives the node images, or None for kind's own. What an interrupted attempt left is removed first. Raises
    ChaosError where the machine lacks something, kind fails, or a node does not become ready.
    """
    engine = find_engine()
    if region.created.exists() and region.nodes(engine):
        _await_whole(region, engine)
        return False
    topology = load_topology(TOPOLOGY)
    prepare_host()
    node_images = images(engine)
    if region.nodes(engine):
        with step("remove what is left of a cluster that was not created to its end"):
            down(region, engine)
    config = kind_config(topology, region.name, node_images, cgroup_v1=cgroup_v1())
    region.make_folder()
    described = region.folder / "kind.yaml"
    described.write_text(yaml.safe_dump(config, sort_keys=False))
    if not engine.succeeds("network", "inspect", region.network):
        _create_network(region, engine)
    with step(f"create cluster {region.cluster} ({len(config['nodes'])} nodes)"):
        log = log_file(f"kind-{region.name}")
        log.unlink(missing_ok=True)
        kind_command(
            engine, "create", "cluster", "--name", region.cluster, "--config", str(described), "--kubeconfig",
            str(region.kubeconfig), "--retain", deadline_s=_CREATE_DEADLINE_S, log=log, network=region.network,
        )  # fmt: skip
    _pin_addresses(region, engine)
    with step("all nodes ready"):
        _await_ready(region, engine, _READY_DEADLINE_S)
    mark_opt_in(api_client(region.kubeconfig), region.name)
    region.created.touch()
    return True


def _await_whole(region: Region, engine: Engine) -> None:
    """Wait for a cluster that was created to be ready; where it is not, raise UsageError and remove nothing."""
    if any(region.undo_folder.glob("*.json")):
        raise UsageError(f"a fault was left in region {region.name}: run `chaos recover --region {region.name}` first")
    try:
        _await_ready(region, engine, _WHOLE_DEADLINE_S)
    except DeadlinePassed as error:
        raise UsageError(
            f"region {region.name} is not whole ({error.seen}): run `chaos cluster down`, then up"
        ) from error


def _create_network(region: Region, engine: Engine) -> None:
    """Create the region's network; Docker lets a container choose its address only where a subnet was asked for."""
    create = ("network", "create", "--label", region.label)
    engine.call(*create, region.network)
    if engine.name == "docker":
        (network,) = json.loads(engine.call("network", "inspect", region.network))
        subnet = network["IPAM"]["Config"][0]["Subnet"]
        engine.call("network", "rm", region.network)
        engine.call(*create, "--subnet", subnet, region.network)


def _pin_addresses(region: Region, engine: Engine) -> None:
    """Make each node keep its address over a restart: kubelet and certificates hold the one it began with.

    And tell each those of all, which kubelet's unit writes into its /etc/hosts at each start.

    While a node leaves its network and comes back, its resolv.conf lacks the network's name server. A pod that is begun
    just then copies that for good, and kube-proxy never finds the API server: so its kubelet begins none meanwhile.
    """
    nodes = region.nodes(engine)
    known = "".join(f"{node.address}\t{node.name}\n" for node in nodes)

    def pin(node: Container) -> None:
        engine.call("exec", node.name, "systemctl", "stop", "kubelet")
        engine.keep_address(region.network, node.name)
        engine.put(node.name, "/kind/nodes", known)
        engine.call("exec", node.name, "systemctl", "start", "kubelet")

    together(*(partial(pin, node) for node in nodes))
    (region.folder / "addresses.json").write_text(json.dumps({node.name: node.address for node in nodes}))


def _await_ready(region: Region, engine: Engine, deadline_s: float) -> None:
    def look() -> str | None:
        states = node_states(region, engine)
        waiting = [state.name for state in states if not state.ready]
        return ", ".join(waiting) + " not ready" if waiting or not states else None

    wait_until("all nodes to be ready", look, deadline_s=deadline_s)


def down(region: Region, engine: Engine) -> list[str]:
    """Remove all that belongs to a region (containers, volumes, network, files) and return what was removed."""
    services = [item.name for item in region.services(engine)]
    nodes = [item.name for item in region.nodes(engine)]
    engine.remove(*services, *nodes)
    volumes = _volumes(region, engine)
    if volumes:
        engine.call("volume", "rm", "--force", *volumes)
    removed = services + nodes + volumes
    if engine.succeeds("network", "inspect", region.network):
        engine.call("network", "rm", region.network)
        removed.append(region.network)
    if region.folder.exists():
        shutil.rmtree(region.folder)
    return removed


def _volumes(region: Region, engine: Engine) -> list[str]:
    """Return the volumes of a region's nodes; with podman kind labels each with the name of its node."""
    count = len(load_topology(TOPOLOGY).config["nodes"])
    workers = [f"{region.cluster}-worker{number if number > 1 else ''}" for number in range(1, count)]
    names = [f"{region.cluster}-control-plane", *workers]
    listed = [engine.call("volume", "ls", "--quiet", "--filter", f"label={name}").split() for name in names]
    return [volume for volumes in listed for volume in volumes]


def known_regions(engine: Engine) -> list[str]:
    """Return the names of all regions of which there is a container."""
    names = set()
    for item in engine.containers("io.x-k8s.kind.cluster"):
        cluster = item.labels["io.x-k8s.kind.cluster"]
        if cluster.startswith("chaos-"):
            names.add(cluster.removeprefix("chaos-"))
    return sorted(names)


def memory_in_use(region: Region, engine: Engine) -> int:
    """Return the bytes of memory that the containers of a region use, by their cgroups; 0 where none runs."""
    names = [item.name for item in (*region.nodes(engine), *region.services(engine)) if item.running]
    if not names:
        return 0
    shown = engine.call("stats", "--no-stream", "--format", "{{.MemUsage}}", *names)
    return sum(_bytes(line.split("/")[0]) for line in shown.splitlines() if line.strip())


def _bytes(text: str) -> int:
    units = {"kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "B": 1}
    text = text.strip()
    unit = next((unit for unit in units if text.endswith(unit)), None)
    if unit is None:
        raise HarnessError(f"the container engine shows a size as {text!r}, which is no size")
    return round(float(text.removesuffix(unit)) * units[unit])
