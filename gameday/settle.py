"""Settling: before and after a run the lakehouse is whole and spread, so that runs do not lean on each other.

Kubernetes does not move pods back to a zone that returned. An operator runs a descheduler for that; here the harness
evicts the surplus pods of a zone, when no load runs and nothing is judged. A formation that will not be spread is left
as it is: whether that breaks a promise is for the run to show.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from gameday.session import Session
from probes.cluster import NAMESPACE, formation_pods, ready_by_zone

# Formations and their replicas, one a zone when settled.
FORMATIONS = {"mds": 3}
_TOO_MANY_REQUESTS = 429


def settle(session: Session, deadline_s: float) -> None:
    """Wait until every formation is ready, and move its surplus pods; raises DeadlinePassed where it is not ready."""
    session.timeline.append("phase.begin", "harness", phase="settle")
    for formation, replicas in FORMATIONS.items():
        await_ready = partial(_unready, session, formation, replicas)
        session.wait(f"{formation} to be ready", await_ready, deadline_s)
        # each move brings one pod to an empty zone, if it has leave to go there
        for _ in range(replicas - 1):
            crowded = _crowded(ready_by_zone(session, formation))
            if not crowded:
                break
            _evict_one(session, formation, crowded)
            session.wait(f"{formation} to be ready after a move", await_ready, deadline_s)
    session.timeline.append("phase.end", "harness", phase="settle")


def _unready(session: Session, formation: str, replicas: int) -> str | None:
    spread = ready_by_zone(session, formation)
    ready = sum(spread.values())
    seen = ", ".join(f"{zone} {count}" for zone, count in sorted(spread.items())) or "none"
    pods = len(formation_pods(session, formation))
    return None if ready == pods == replicas else f"{ready} of {replicas} ready ({seen}), {pods} there"


def _crowded(spread: Counter[str]) -> str | None:
    return next((zone for zone, count in spread.items() if count > 1), None)


def _evict_one(session: Session, formation: str, zone: str) -> None:
    nodes = {machine.name for machine in session.machines([zone])}
    pod = next(pod for pod in formation_pods(session, formation) if pod.spec.node_name in nodes)
    body = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod.metadata.name, namespace=NAMESPACE))

    def look() -> str | None:
        try:
            session.core.create_namespaced_pod_eviction(pod.metadata.name, NAMESPACE, body)
        except ApiException as error:
            if error.status != _TOO_MANY_REQUESTS:
                raise
            return "the disruption budget says not now"
        return None

    session.wait(f"leave to evict {pod.metadata.name}", look, deadline_s=30.0)
    session.timeline.append("settle.moved", "harness", pod=pod.metadata.name, zone=zone)
