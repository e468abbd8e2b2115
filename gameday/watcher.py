"""Watches of the cluster: pods, nodes and Kubernetes' own events go to the timeline as they happen, never polled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Literal

from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.utils.quantity import parse_quantity
from urllib3.exceptions import HTTPError

from gameday.bindings import Bindings
from gameday.clusters import is_ready
from gameday.session import Session
from gameday.topology import ZONE_LABEL

# A watch is asked anew this often, so that a connection that died without a word is noticed.
_WATCH_TIMEOUT_S = 60
_GIVE_UP_AFTER = 20
_RETRY_S = 0.5


class ClusterWatch:
    """Three watches in threads of their own, from `start` until `stop`."""

    def __init__(self, session: Session, namespaces: Iterable[str]) -> None:
        self._session = session
        self._namespaces = frozenset(namespaces)
        self._bindings = Bindings(session.core)
        self._zones: dict[str, str | None] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to watch; what is there already is written as SNAPSHOT first. Raises ApiException where it cannot."""
        core = self._session.core
        nodes = core.list_node()
        for node in nodes.items:
            self._node("SNAPSHOT", node)
        pods = core.list_pod_for_all_namespaces()
        for pod in pods.items:
            self._pod("SNAPSHOT", pod)
        events = core.list_event_for_all_namespaces(limit=1)
        self._spawn("nodes", core.list_node, nodes.metadata.resource_version, self._node)
        self._spawn("pods", core.list_pod_for_all_namespaces, pods.metadata.resource_version, self._pod)
        version = events.metadata.resource_version
        self._spawn("events", core.list_event_for_all_namespaces, version, self._event)

    def stop(self) -> None:
        """End the watches; does not wait for a connection that says nothing."""
        self._stop.set()

    def _spawn(self, what: str, listing: Callable[..., Any], version: str, handle: Callable[[str, Any], None]) -> None:
        thread = threading.Thread(
            target=self._follow, args=(what, listing, version, handle), daemon=True, name=f"watch-{what}"
        )
        self._threads.append(thread)
        thread.start()

    def _follow(self, what: str, listing: Callable[..., Any], version: str, handle: Callable[[str, Any], None]) -> None:
        failures = 0
        while not self._stop.is_set():
            stream = watch.Watch()
            try:
                for event in stream.stream(listing, resource_version=version, timeout_seconds=_WATCH_TIMEOUT_S):
                    if self._stop.is_set():
                        return
                    handle(event["type"], event["object"])
                    version = event["object"].metadata.resource_version
                    failures = 0
            except (ApiException, HTTPError) as error:
                failures += 1
                expired = isinstance(error, ApiException)
                if expired or failures >= _GIVE_UP_AFTER:
                    # what happened between the last event and now is not on the timeline
                    self._session.timeline.append("watch.lost", "harness", what=what, error=str(error).splitlines()[0])
                if failures >= _GIVE_UP_AFTER:
                    return
                if expired:
                    version = "0"
                self._stop.wait(_RETRY_S)
            except Exception as error:  # noqa: BLE001 - a thread that dies in silence would leave holes nobody knows of
                self._session.timeline.append("watch.lost", "harness", what=what, error=repr(error))
                return

    def _node(self, op: str, node: Any) -> None:  # noqa: ANN401 - the Kubernetes client carries no types
        zone = (node.metadata.labels or {}).get(ZONE_LABEL)
        self._zones[node.metadata.name] = zone
        fields = {
            "name": node.metadata.name,
            "zone": zone,
            "ready": is_ready(node),
            "unschedulable": bool(node.spec.unschedulable),
            "taints": [taint.key for taint in node.spec.taints or []],
        }
        self._write("node", op, node.metadata.uid, fields)

    def _pod(self, op: str, pod: Any) -> None:  # noqa: ANN401 - the Kubernetes client carries no types
        if pod.metadata.namespace not in self._namespaces:
            return
        fields = pod_fields(pod, self._zones)
        self._write("pod", op, pod.metadata.uid, {**fields, "bound_to": self._bindings.zone_of(pod, self._zones)})

    def _write(self, kind: Literal["node", "pod"], op: str, uid: str, fields: dict[str, Any]) -> None:
        """Write what changed: most modifications of an object are a heartbeat, and none of our fields."""
        if op == "MODIFIED" and self._last.get(uid) == fields:
            return
        self._last[uid] = fields
        self._session.timeline.append(kind, "automatic", op=op, **fields)

    def _event(self, op: str, event: Any) -> None:  # noqa: ANN401 - the Kubernetes client carries no types
        about = event.involved_object
        if op == "DELETED" or (about.kind == "Pod" and about.namespace not in self._namespaces):
            return
        self._session.timeline.append(
            "kubernetes.event",
            "automatic",
            reason=event.reason,
            type=event.type,
            object=f"{about.kind}/{about.name}",
            message=(event.message or "")[:300],
        )


def pod_fields(pod: Any, zones: dict[str, str | None]) -> dict[str, Any]:  # noqa: ANN401 - the client carries no types
    """Return the fields of a pod as the timeline has them; `zones` maps a node's name to its zone."""
    labels = pod.metadata.labels or {}
    conditions = {item.type: item for item in pod.status.conditions or []}
    scheduled = conditions.get("PodScheduled")
    ready = conditions.get("Ready")
    return {
        "namespace": pod.metadata.namespace,
        "name": pod.metadata.name,
        "uid": pod.metadata.uid,
        "app": labels.get("app.kubernetes.io/name"),
        "formation": labels.get("lakehouse/formation"),
        **_workload_fields(labels),
        "node": pod.spec.node_name,
        "zone": zones.get(pod.spec.node_name) if pod.spec.node_name else None,
        "phase": pod.status.phase,
        "ready": bool(ready and ready.status == "True"),
        "deleting": pod.metadata.deletion_timestamp is not None,
        "unschedulable": scheduled.message if scheduled and scheduled.reason == "Unschedulable" else None,
    }


def _workload_fields(labels: dict[str, str]) -> dict[str, str | None]:
    """Return what a pod does for a workload: None for those that a formation runs for good.

    `role` and `executor` are Spark's own labels, by which it finds its pods.
    """
    return {
        "workload": labels.get("lakehouse/workload"),
        "role": labels.get("spark-role"),
        "executor": labels.get("spark-exec-id"),
    }


def capacity(session: Session) -> dict[str, Any]:
    """Return what the nodes have and what their pods ask for, as the `capacity` event holds it."""
    core: client.CoreV1Api = session.core
    nodes = core.list_node(_request_timeout=10).items
    zones = {node.metadata.name: (node.metadata.labels or {}).get(ZONE_LABEL) for node in nodes}
    bindings = Bindings(core)
    pods = core.list_pod_for_all_namespaces(_request_timeout=10).items
    return {
        "nodes": [
            {
                "name": node.metadata.name,
                "zone": zones[node.metadata.name],
                "cpu_millis": _millis(node.status.allocatable["cpu"]),
                "memory_bytes": _bytes(node.status.allocatable["memory"]),
                "pods": int(node.status.allocatable["pods"]),
                "usable": is_ready(node) and not node.spec.unschedulable and not _closed(node),
            }
            for node in nodes
        ],
        "assigned": [
            {**_assigned(pod, zones), "bound_to": bindings.zone_of(pod, zones)}
            for pod in pods
            if pod.spec.node_name and _runs(pod)
        ],
    }


def _closed(node: Any) -> bool:  # noqa: ANN401 - the Kubernetes client carries no types
    return any(taint.effect in ("NoSchedule", "NoExecute") for taint in node.spec.taints or [])


def _runs(pod: Any) -> bool:  # noqa: ANN401 - the Kubernetes client carries no types
    return pod.status.phase not in ("Succeeded", "Failed")


def _assigned(pod: Any, zones: dict[str, str | None]) -> dict[str, Any]:  # noqa: ANN401 - the client carries no types
    requests = [container.resources.requests or {} for container in pod.spec.containers]
    return {
        "name": pod.metadata.name,
        "namespace": pod.metadata.namespace,
        "uid": pod.metadata.uid,
        "node": pod.spec.node_name,
        "zone": zones.get(pod.spec.node_name),
        "formation": (pod.metadata.labels or {}).get("lakehouse/formation"),
        **_workload_fields(pod.metadata.labels or {}),
        "daemon": any(owner.kind in ("DaemonSet", "Node") for owner in pod.metadata.owner_references or []),
        "cpu_millis": sum(_millis(request.get("cpu", "0")) for request in requests),
        "memory_bytes": sum(_bytes(request.get("memory", "0")) for request in requests),
    }


def _millis(quantity: str) -> int:
    return int(parse_quantity(quantity) * 1000)


def _bytes(quantity: str) -> int:
    return int(parse_quantity(quantity))
