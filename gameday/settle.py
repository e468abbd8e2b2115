"""Settling: before and after a run the lakehouse is whole and spread, so that runs do not lean on each other.

Kubernetes does not move pods back to a zone that returned. An operator runs a descheduler for that; here the harness
evicts the surplus pods of a zone, when no load runs and nothing is judged.
"""

from __future__ import annotations

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from gameday.session import Session
from probes.cluster import NAMESPACE, formation_pods, ready_by_zone

# Formations and their replicas, one a zone when settled.
FORMATIONS = {"mds": 3}
_TOO_MANY_REQUESTS = 429


def settle(session: Session, deadline_s: float) -> None:
    """Wait until every formation is ready and spread, moving surplus pods; raises DeadlinePassed."""
    session.timeline.append("phase.begin", "harness", phase="settle")
    for formation, replicas in FORMATIONS.items():
        session.wait(
            f"{formation} to be ready and spread over the zones",
            lambda formation=formation, replicas=replicas: _unsettled(session, formation, replicas),
            deadline_s,
        )
    session.timeline.append("phase.end", "harness", phase="settle")


def _unsettled(session: Session, formation: str, replicas: int) -> str | None:
    spread = ready_by_zone(session, formation)
    ready = sum(spread.values())
    crowded = [zone for zone, count in spread.items() if count > 1]
    seen = ", ".join(f"{zone} {count}" for zone, count in sorted(spread.items())) or "none"
    if ready < replicas:
        return f"{ready} of {replicas} ready ({seen})"
    if crowded:
        _evict_one(session, formation, crowded[0])
        return f"crowded ({seen})"
    return None


def _evict_one(session: Session, formation: str, zone: str) -> None:
    nodes = {machine.name for machine in session.machines([zone])}
    pod = next(pod for pod in formation_pods(session, formation) if pod.spec.node_name in nodes)
    body = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod.metadata.name, namespace=NAMESPACE))
    try:
        session.core.create_namespaced_pod_eviction(pod.metadata.name, NAMESPACE, body)
    except ApiException as error:
        # the disruption budget says not now; the wait comes back to it
        if error.status != _TOO_MANY_REQUESTS:
            raise
