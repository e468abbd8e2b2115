"""The cluster's own state: nodes, and the formations that Kubernetes keeps."""

from __future__ import annotations

from typing import Any

from gameday.clusters import is_ready
from gameday.session import Session, current
from gameday.topology import ZONE_LABEL

NAMESPACE = "lakehouse"
FORMATION_LABEL = "lakehouse/formation"
WORKLOAD_LABEL = "lakehouse/workload"
_TIMEOUT_S = 10


def nodes_ready() -> bool:
    """Tell whether every node of the topology is there, Ready and free to take pods."""
    session = current()
    nodes = session.core.list_node(_request_timeout=_TIMEOUT_S).items
    wanted = len(session.topology.config["nodes"])
    return len(nodes) == wanted and all(is_ready(node) and not node.spec.unschedulable for node in nodes)


def formation_ready(formation: str, replicas: int) -> bool:
    """Tell whether a formation has exactly so many ready pods on nodes that are ready."""
    return len(serving_pods(current(), formation)) == replicas


def wait_formation_ready(formation: str, replicas: int, deadline_s: float, outside: list[str] | None = None) -> bool:
    """Wait for so many ready pods of a formation; False after `deadline_s` seconds, a finding and no error.

    Pods in the zones `outside` do not count: those of a dead machine pass for ready until that is noticed.
    """
    session = current()

    def look() -> str | None:
        zones = ready_zones(session)
        ready = sum(zones.get(pod.spec.node_name) not in (outside or []) for pod in serving_pods(session, formation))
        return None if ready == replicas else f"{ready} of {replicas} ready"

    where = f" outside {', '.join(outside)}" if outside else ""
    return session.waited(f"{replicas} ready pods of {formation}{where}", look, deadline_s)


def ready_zones(session: Session) -> dict[str, str]:
    """Return the zone of each node that is ready, by the node's name; nodes without a zone have an empty one."""
    nodes = session.core.list_node(_request_timeout=_TIMEOUT_S).items
    return {node.metadata.name: (node.metadata.labels or {}).get(ZONE_LABEL, "") for node in nodes if is_ready(node)}


def serving_pods(session: Session, formation: str) -> list[Any]:
    """Return the ready pods of a formation, counting only nodes that are ready themselves."""
    zones = ready_zones(session)
    return [pod for pod in formation_pods(session, formation) if serves_on(pod, zones)]


def formation_pods(session: Session, formation: str) -> list[Any]:
    """Return the pods that a formation runs for good, of any state; those of single workloads are not among them."""
    selector = f"{FORMATION_LABEL}={formation},!{WORKLOAD_LABEL}"
    listing = session.core.list_namespaced_pod(NAMESPACE, label_selector=selector, _request_timeout=_TIMEOUT_S)
    pods: list[Any] = listing.items
    return pods


def serves_on(pod: Any, zones: dict[str, str]) -> bool:  # noqa: ANN401 - the Kubernetes client carries no types
    """Tell whether a pod is ready, not about to end, and on one of these nodes (by name, with their zones)."""
    ready = any(item.type == "Ready" and item.status == "True" for item in pod.status.conditions or [])
    return ready and pod.metadata.deletion_timestamp is None and pod.spec.node_name in zones
