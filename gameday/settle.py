"""Settling: before a run the lakehouse is whole and spread, so that runs do not lean on each other.

Kubernetes does not move pods back to a zone that returned. An operator runs a descheduler for that; here the harness
evicts the surplus pods of a zone, and those that are not in the zone which they prefer, when no load runs and nothing
is judged. A formation that will not be spread is left as it is: whether that breaks a promise is for the run to show.
Pods of workloads that an earlier run left behind are removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from gameday.evictions import evict
from gameday.session import Session
from gameday.topology import ZONE_LABEL
from lakehouse.deploy import deployed, serves_nobody
from lakehouse.formation import Formation
from probes.cluster import NAMESPACE, WORKLOAD_LABEL, formation_pods, ready_zones, serving_pods

# How long a formation may take to be ready, or to serve, before and after a run.
SETTLE_DEADLINE_S = 120.0


def settle(session: Session, deadline_s: float) -> None:
    """Move surplus pods until there are none, and wait until every formation is ready and serves.

    What is ready may be known to all a little later: the load of an engine waits for that. Raises DeadlinePassed where
    a formation is not ready, or could serve nobody, in time.
    """
    with _phase(session):
        formations = await_ready(session, deadline_s)
        # each round brings one pod of each Deployment to where it belongs, if it has leave to go there
        for _ in range(max((formation.replicas for formation in formations), default=0)):
            moved = _move(session, formations)
            if not moved:
                break
            for formation in moved:
                look = partial(_unready, session, formation)
                session.wait(f"{formation.name} to be ready after a move", look, deadline_s)
        for formation in formations:
            look = partial(serves_nobody, formation, session.endpoints[formation.name])
            session.wait(f"{formation.name} to serve", look, deadline_s)


def leave_settling(session: Session, deadline_s: float) -> None:
    """Begin to settle, and leave it to whoever runs next to wait: it has its own beginning to do meanwhile.

    Raises DeadlinePassed where a formation is not ready in time, before anything is moved.
    """
    with _phase(session):
        _move(session, await_ready(session, deadline_s))


@contextmanager
def _phase(session: Session) -> Iterator[None]:
    session.timeline.append("phase.begin", "harness", phase="settle")
    session.core.delete_collection_namespaced_pod(NAMESPACE, label_selector=WORKLOAD_LABEL, grace_period_seconds=0)
    yield
    session.timeline.append("phase.end", "harness", phase="settle")


def await_ready(session: Session, deadline_s: float) -> tuple[Formation, ...]:
    """Wait until every formation has all its pods ready, and return all; raises DeadlinePassed where one has not."""
    formations = deployed(session.api)
    for formation in formations:
        session.wait(f"{formation.name} to be ready", partial(_unready, session, formation), deadline_s)
    return formations


def _move(session: Session, formations: tuple[Formation, ...]) -> set[Formation]:
    """Move a surplus pod of each Deployment, if it has leave to go; return the formations of which one went."""
    surplus = [(formation, pod) for formation in formations for pod in _surplus(session, formation)]
    return {formation for formation, pod in surplus if _evict(session, pod)}


def _unready(session: Session, formation: Formation) -> str | None:
    pods = formation_pods(session, formation.name)
    serving = serving_pods(session, formation.name)
    there, wanted = Counter(_app(pod) for pod in serving), formation.parts
    missing = {name: f"{there[name]} of {count}" for name, count in wanted.items() if there[name] != count}
    if not missing and len(pods) == formation.replicas:
        return None
    told = ", ".join(f"{name} {count} ready" for name, count in missing.items()) or "all ready"
    return f"{told}, {len(pods)} pods there"


def _surplus(session: Session, formation: Formation) -> list[Any]:
    """Return a pod of each Deployment that is better moved.

    That is one of two in a zone while another has none, or one away from its own zone.
    """
    zones = ready_zones(session)
    pods = serving_pods(session, formation.name)
    found = []
    for name in formation.deployments:
        # one that is bound to a zone would come back to it
        own = [pod for pod in pods if _app(pod) == name and ZONE_LABEL not in (pod.spec.node_selector or {})]
        spread = Counter(zones[pod.spec.node_name] for pod in own)
        if len(spread) < min(len(own), len(set(zones.values()))):
            crowded = next((zone for zone, count in spread.items() if count > 1), None)
            found.append(next(pod for pod in own if zones[pod.spec.node_name] == crowded))
            continue
        away = [pod for pod in own if _is_away(pod, zones)]
        found += away[:1]
    return found


def _is_away(pod: Any, zones: dict[str, str]) -> bool:  # noqa: ANN401 - the Kubernetes client carries no types
    preferred = _preferred_zones(pod) & set(zones.values())
    return bool(preferred) and zones[pod.spec.node_name] not in preferred


def _app(pod: Any) -> str:  # noqa: ANN401 - the Kubernetes client carries no types
    return str((pod.metadata.labels or {}).get("app.kubernetes.io/name"))


def _preferred_zones(pod: Any) -> set[str]:  # noqa: ANN401 - the Kubernetes client carries no types
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity else None
    terms = (affinity.preferred_during_scheduling_ignored_during_execution or []) if affinity else []
    wanted = [item for term in terms for item in term.preference.match_expressions or [] if item.key == ZONE_LABEL]
    return {zone for item in wanted for zone in item.values or []}


def _evict(session: Session, pod: Any) -> bool:  # noqa: ANN401 - the Kubernetes client carries no types
    """Evict a pod; False where its disruption budget never gives leave."""
    name = pod.metadata.name

    def look() -> str | None:
        return None if evict(session, name, NAMESPACE) else "the disruption budget says not now"

    if not session.waited(f"leave to evict {name}", look, deadline_s=30.0):
        return False
    session.timeline.append("settle.moved", "harness", pod=name, node=pod.spec.node_name)
    return True
