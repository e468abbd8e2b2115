"""Spark as a client sees it: its submission service, and the executors of its jobs."""

from __future__ import annotations

from gameday.session import current
from probes.cluster import NAMESPACE, WORKLOAD_LABEL, ready_zones, serves_on
from probes.listing import listed


def serves() -> bool:
    """Tell whether the submission service lists its jobs, which it reads from Kubernetes and the object store."""
    return listed("spark", "/v1/jobs")


def wait_executors(executors: int, deadline_s: float, outside: list[str] | None = None) -> bool:
    """Wait for so many ready executors of all jobs together; False after `deadline_s` seconds, a finding and no error.

    Pods in the zones `outside` do not count: those of a dead machine pass for ready until that is noticed.
    """
    session = current()
    selector = f"{WORKLOAD_LABEL},spark-role=executor"

    def look() -> str | None:
        zones = ready_zones(session)
        pods = session.core.list_namespaced_pod(NAMESPACE, label_selector=selector, _request_timeout=10).items
        ready = [pod for pod in pods if serves_on(pod, zones) and zones[pod.spec.node_name] not in (outside or [])]
        return None if len(ready) >= executors else f"{len(ready)} of {executors} ready"

    where = f" outside {', '.join(outside)}" if outside else ""
    return session.waited(f"{executors} ready executors{where}", look, deadline_s)
