"""Zone power loss: all machines of a zone are killed at once, without a chance to say goodbye."""

from __future__ import annotations

import json
import socket
from datetime import datetime
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from gameday.clusters import is_ready
from gameday.engine import Container
from gameday.session import Session

_KUBELET_PORT = 10250
_CONNECT_TIMEOUT_S = 1.0
_HEAL_DEADLINE_S = 120.0


class ZonePowerLoss:
    """Kills the node containers of zones; heal starts them and waits until their nodes are ready and usable."""

    name = "zone-power-loss"

    def available(self, session: Session, zones: list[str]) -> str | None:
        """Every machine must be running, and answer where the proof will look: else silence would prove nothing."""
        dead = [machine.name for machine in session.machines(zones) if not machine.running]
        silent = [name for name, address in self._addresses(session, zones).items() if not _answers(address)]
        if dead or silent:
            return f"{', '.join(dead or silent)} {'is not running' if dead else 'does not answer'}"
        return None

    def inject(self, session: Session, zones: list[str]) -> None:
        """Send SIGKILL to all processes of the machines, of all zones in one call."""
        session.engine.kill(*(machine.name for machine in session.machines(zones)))

    def in_effect(self, session: Session, zones: list[str]) -> dict[str, Any] | None:
        """Prove by the network that no machine of the zones answers: its kubelet's port takes no connection.

        The engine, which was told to kill, is not what is believed.
        """
        addresses = self._addresses(session, zones)
        answers = {name: _answers(address) for name, address in addresses.items()}
        if not answers or any(answers.values()):
            return None
        return {
            "read": f"TCP connection to port {_KUBELET_PORT} of every node",
            "no_answer": sorted(addresses.values()),
        }

    def heal(self, session: Session, zones: list[str]) -> None:
        """Start what is stopped, then wait for each node: Ready, its own pods running, its address the one it had."""
        stopped = [machine.name for machine in session.machines(zones) if not machine.running]
        if stopped:
            session.engine.start(*stopped)

        def look() -> str | None:
            states = {machine.name: _unusable(session, machine) for machine in session.machines(zones)}
            return ", ".join(f"{name} {state}" for name, state in states.items() if state) or None

        session.wait(f"zone {', '.join(zones)} to be Ready and usable", look, _HEAL_DEADLINE_S)

    @staticmethod
    def _addresses(session: Session, zones: list[str]) -> dict[str, str]:
        """Return the address that each machine is pinned to; the engine forgets it while the machine is dead."""
        names = [machine.name for machine in session.machines(zones)]
        pinned = session.region.folder / "addresses.json"
        known: dict[str, str] = json.loads(pinned.read_text())
        return {name: known[name] for name in names}


def _answers(address: str) -> bool:
    try:
        with socket.create_connection((address, _KUBELET_PORT), timeout=_CONNECT_TIMEOUT_S):
            return True
    except OSError:
        return False


def _unusable(session: Session, machine: Container) -> str | None:
    """Say what a node still lacks: word from its kubelet that it is Ready, no taint, and its own pods started anew.

    The API server goes on saying for a while what was true before the power loss, so only what is not older than the
    machine's start counts; its times are whole seconds.
    """
    name, since = machine.name, machine.started.replace(microsecond=0)
    try:
        node = session.core.read_node(name, _request_timeout=5)
        pods = session.core.list_namespaced_pod(
            "kube-system", field_selector=f"spec.nodeName={name}", _request_timeout=5
        )
    except (ApiException, HTTPError) as error:
        return f"cannot be read ({getattr(error, 'reason', error)})"
    if not reported_since(node, since):
        return "has not reported since it was started"
    if not is_ready(node):
        return "not Ready"
    taints = [taint.key for taint in node.spec.taints or [] if taint.effect in ("NoExecute", "NoSchedule")]
    if taints:
        return f"tainted {taints[0]}"
    statuses = [status for pod in pods.items for status in pod.status.container_statuses or []]
    if not statuses or not all(_started_since(status, since) for status in statuses):
        return "its own pods are not ready"
    return None


def reported_since(node: Any, since: datetime) -> bool:  # noqa: ANN401 - the Kubernetes client carries no types
    """Tell whether a node's kubelet reported at that moment or later; both are whole seconds.

    At that moment too: kubelet may report in the second in which its machine begins, and what does not change then it
    reports again only minutes later.
    """
    return any(item.type == "Ready" and item.last_heartbeat_time >= since for item in node.status.conditions or [])


def _started_since(status: Any, since: datetime) -> bool:  # noqa: ANN401 - the Kubernetes client carries no types
    return bool(status.ready and status.state.running and status.state.running.started_at >= since)
