"""Zone drain: the nodes of a zone are cordoned and drained by its label, as for maintenance; the mild variant."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chaosk8s.node.actions import cordon_node, uncordon_node
from kubernetes.config import kube_config

from gameday.errors import HarnessError
from gameday.evictions import evict
from gameday.session import Session
from gameday.topology import ZONE_LABEL

_DRAIN_DEADLINE_S = 120.0
_HEAL_DEADLINE_S = 60.0


class ZoneDrain:
    """Cordons and drains the nodes of zones; heal lets pods be scheduled there again.

    chaostoolkit-kubernetes cordons. Its `drain_nodes` (0.39) raises a TypeError at a pod without volumes, such as
    those of MDS, and gives up where a disruption budget says "not now"; so pods are evicted here.
    """

    name = "zone-drain"

    def available(self, session: Session, zones: list[str]) -> str | None:
        """Every machine must run and take pods; a node that is cordoned already was not cordoned by this fault."""
        dead = [machine.name for machine in session.machines(zones) if not machine.running]
        cordoned = [node.metadata.name for node in _nodes(session, zones) if node.spec.unschedulable]
        if dead or cordoned:
            return f"{', '.join(dead + cordoned)} is not running or cordoned already"
        return None

    def inject(self, session: Session, zones: list[str]) -> None:
        """Cordon all nodes of the zones, then evict their pods; raises HarnessError where no node matches."""
        nodes = _nodes(session, zones)
        if not nodes:
            raise HarnessError(f"zone {', '.join(zones)} was not drained: its label matches no node")
        with _kubeconfig(session):
            for node in nodes:
                cordon_node(name=node.metadata.name)
        for node in nodes:
            _evict_all(session, node.metadata.name)

    def in_effect(self, session: Session, zones: list[str]) -> dict[str, Any] | None:
        """Prove by a read of our own: every node of the zones is cordoned, and holds no pod that can be evicted."""
        nodes = _nodes(session, zones)
        left = [pod.metadata.name for node in nodes for pod in _evictable(session, node.metadata.name)]
        if not nodes or left or not all(node.spec.unschedulable for node in nodes):
            return None
        return {"read": "nodes and their pods from the API server", "cordoned": [node.metadata.name for node in nodes]}

    def heal(self, session: Session, zones: list[str]) -> None:
        """Uncordon the nodes that are cordoned and wait until the scheduler's taint is gone."""
        with _kubeconfig(session):
            for node in _nodes(session, zones):
                if node.spec.unschedulable:
                    uncordon_node(name=node.metadata.name)

        def look() -> str | None:
            waiting = [
                node.metadata.name for node in _nodes(session, zones) if node.spec.unschedulable or node.spec.taints
            ]
            return ", ".join(waiting) + " still cordoned or tainted" if waiting else None

        session.wait(f"zone {', '.join(zones)} to take pods again", look, _HEAL_DEADLINE_S)


def _nodes(session: Session, zones: list[str]) -> list[Any]:
    selector = f"{ZONE_LABEL} in ({','.join(zones)})"
    items: list[Any] = session.core.list_node(label_selector=selector, _request_timeout=10).items
    return items


def _evictable(session: Session, node: str) -> list[Any]:
    pods = session.core.list_pod_for_all_namespaces(field_selector=f"spec.nodeName={node}", _request_timeout=10).items
    return [
        pod
        for pod in pods
        if not any(owner.kind in ("DaemonSet", "Node") for owner in pod.metadata.owner_references or [])
        and pod.status.phase not in ("Succeeded", "Failed")
    ]


def _evict_all(session: Session, node: str) -> None:
    """Ask for the eviction of each pod, again where a disruption budget says not now, until none is left."""

    def look() -> str | None:
        left = _evictable(session, node)
        for pod in left:
            if pod.metadata.deletion_timestamp is None:
                evict(session, pod.metadata.name, pod.metadata.namespace)
        return ", ".join(pod.metadata.name for pod in left) + " still there" if left else None

    session.wait(f"all pods of {node} to be evicted", look, _DRAIN_DEADLINE_S)


@contextmanager
def _kubeconfig(session: Session) -> Iterator[None]:
    """Point chaostoolkit-kubernetes at the region: it takes the file of the environment, read when it was imported."""
    path = str(session.region.kubeconfig)
    before = os.environ.get("KUBECONFIG"), kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    os.environ["KUBECONFIG"] = kube_config.KUBE_CONFIG_DEFAULT_LOCATION = path
    try:
        yield
    finally:
        kube_config.KUBE_CONFIG_DEFAULT_LOCATION = before[1]
        if before[0] is None:
            del os.environ["KUBECONFIG"]
        else:
            os.environ["KUBECONFIG"] = before[0]
