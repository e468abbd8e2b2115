"""The state of a job, from what the object store and Kubernetes know of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

# How long the way from a client's request to the driver's pod may take: a queue of so many, so many at a time
SUBMITTED_AT_ONCE = 2
WAITING = 4
SUBMIT_DEADLINE_S = 90.0
# After that nobody is submitting a job any more that neither runs nor was refused: its replica is gone.
ABANDONED_AFTER_S = SUBMIT_DEADLINE_S * (1 + WAITING / SUBMITTED_AT_ONCE)

State = Literal["submitted", "running", "succeeded", "failed"]


@dataclass(frozen=True)
class Driver:
    """A driver's pod; `node_ready` is None where its Node object is gone, or it has none yet."""

    name: str
    phase: str
    deleting: bool = False
    node: str | None = None
    node_ready: bool | None = None
    address: str | None = None
    application: str | None = None
    message: str | None = None

    @property
    def lost(self) -> bool:
        """Whether its machine is gone, so that it will never say how it ended."""
        if self.node is None:
            return False
        # a machine that is merely silent may come back with the driver on it, unless its pods have been given up
        return self.node_ready is None or (self.deleting and not self.node_ready)


@dataclass(frozen=True)
class Record:
    """What the object store has of a job: when it was taken, how its submission ended, whether a result is whole."""

    taken_at: float
    accepted: bool = False
    refused: bool = False
    complete: bool = False


def state_of(record: Record, driver: Driver | None, now: float) -> tuple[State, str | None]:
    """Return the state of a job and, where it is not what all is well with, one sentence why.

    The record's `accepted` has to have been read before the driver was looked for, and `complete` after it: else a pod
    that came or ended in between would be missed.
    """
    if record.complete or (driver and driver.phase == "Succeeded"):
        return "succeeded", None
    if driver is not None:
        return _state_of_driver(driver)
    if record.refused:
        return "failed", "Spark refused the job"
    if record.accepted:
        return "failed", "the driver's pod is gone without a result"
    if now - record.taken_at > ABANDONED_AFTER_S:
        return "failed", "the replica that took the job is gone, and no other knows of a driver"
    return "submitted", None


def _state_of_driver(driver: Driver) -> tuple[State, str | None]:
    if driver.phase == "Failed":
        return "failed", driver.message or "the driver failed"
    if driver.lost:
        return "failed", f"the driver was lost with its node {driver.node}"
    if driver.phase == "Pending":
        return "submitted", driver.message
    return "running", None if driver.node_ready else f"the driver's node {driver.node} is not ready"


def driver_of(pod: dict[str, Any], nodes: dict[str, bool]) -> Driver:
    """Return a driver from its pod and the nodes by name, each with whether it is ready."""
    status, node = pod.get("status", {}), pod["spec"].get("nodeName")
    return Driver(
        name=pod["metadata"]["name"],
        phase=status.get("phase", "Pending"),
        deleting="deletionTimestamp" in pod["metadata"],
        node=node,
        node_ready=nodes.get(node) if node else None,
        address=status.get("podIP"),
        application=pod["metadata"].get("labels", {}).get("spark-app-selector"),
        message=_message(status),
    )


def _message(status: dict[str, Any]) -> str | None:
    """Return what a pod's status says of why it does not run: how its container ended, or why it does not begin."""
    for container in status.get("containerStatuses", []):
        state = container.get("state", {})
        if ended := state.get("terminated"):
            said = " ".join(str(ended.get("message") or "").split())[:300]
            return f"the driver ended with exit code {ended.get('exitCode')} ({ended.get('reason')})" + (
                f": {said}" if said else ""
            )
        if (waiting := state.get("waiting")) and waiting.get("message"):
            return str(waiting["message"])[:300]
    for condition in status.get("conditions", []):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "")[:300] or None
    return str(status["message"])[:300] if status.get("message") else None


def readiness_of_nodes(nodes: list[dict[str, Any]]) -> dict[str, bool]:
    """Return for each Node object whether its kubelet reports it as ready."""
    return {
        node["metadata"]["name"]: any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in node.get("status", {}).get("conditions", [])
        )
        for node in nodes
    }
