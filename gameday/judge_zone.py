"""Checkers of what Kubernetes did with the pods of a lost zone: had they room, and did they come back alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gameday.errors import Inconclusive
from gameday.judge_case import Case, Finding, seconds, sentence
from gameday.judge_writes import writes_evidence
from gameday.timeline import Event

# what the scheduler says of a pod that no node has the room for; other words are about taints and topology
_NO_ROOM = ("Insufficient", "Too many pods")
_RESOURCES = ("cpu_millis", "memory_bytes", "pods")


@dataclass
class _Room:
    """What is left of one node that can take pods, and the pods that were placed there."""

    node: str
    zone: str
    free: dict[str, int]
    placed: list[str] = field(default_factory=list)

    def takes(self, pod: dict[str, Any]) -> bool:
        """Place a pod if there is room for it."""
        if any(_asks(pod, name) > self.free[name] for name in _RESOURCES):
            return False
        self.free = {name: self.free[name] - _asks(pod, name) for name in _RESOURCES}
        self.placed.append(pod["name"])
        return True


def capacity(case: Case) -> Finding:
    """Hold the promise that the remaining zones have capacity for the lost pods: by arithmetic, and as it was seen.

    Arithmetic: what the formations' pods on the lost nodes ask for, the largest first, each put on the first node with
    room for it, fits into what the usable nodes of the other zones had free just before the fault. Seen: no pod of a
    formation was still without a node for lack of resources at the deadline; where the fault ended earlier, a pod that
    was waiting then leaves it open. Constraints other than resources are no matter of capacity.
    """
    fault = case.fault
    case.check_load(fault.injecting, case.fault_end)
    case.run.check_watched(case.fault_end)
    known = [event for event in case.run.of_kind("capacity") if event.mono < fault.injecting]
    if not known:
        raise Inconclusive("what the nodes had free before the fault was not read")
    lost = [
        pod
        for pod in known[-1]["assigned"]
        if pod["node"] in fault.nodes and not pod.get("daemon") and pod.get("formation")
    ]
    if not lost:
        raise Inconclusive("the lost zones held no pods of a formation, so that none had to be taken in")
    rooms = _rooms(known[-1], fault.zones)
    before = {room.node: dict(room.free) for room in rooms}
    homeless = _place(lost, rooms)
    deadline = fault.injecting + case.contract.recovery.deadline_s
    stuck = _without_room(case.run.pods_at(min(deadline, case.fault_end)))
    if stuck and not homeless and case.fault_end < deadline:
        raise Inconclusive(f"{stuck[0]} had found no room yet when the fault ended, before the deadline")
    complaints = []
    if homeless:
        complaints.append(f"{len(homeless)} of {len(lost)} lost pods do not fit")
    if stuck:
        complaints.append(f"{len(stuck)} pods found no room until the deadline")
    asked = {name: sum(_asks(pod, name) for pod in lost) for name in _RESOURCES}
    return Finding(
        held=not complaints,
        figure=f"pods lost: {len(lost)}, asking {_amount(asked)}; free: " + "; ".join(_zone_texts(rooms, before)),
        bound="every lost pod fits on a node of another zone, and none is left without room",
        reason=sentence("; ".join(complaints) or "the remaining zones had room for all lost pods"),
        evidence={
            "lost": lost,
            "free_before": before,
            "placed": {room.node: room.placed for room in rooms},
            "without_room": [pod["name"] for pod in homeless],
            "stuck": stuck,
            "rto": case.outage_evidence(),
            "rpo": writes_evidence(case),
        },
    )


def rescheduled(case: Case) -> Finding:
    """Hold the promise that lost pods come back in healthy zones with nobody acting.

    Each formation must have as many ready pods in the zones that are left as it had in all before, and for each lost
    one a pod that was not there before, within the recovery deadline after the fault began, and before a zone returns.
    Where the zone returned earlier than that deadline and the pods were not back yet, the situation ended too early to
    tell. A step of SRE or of the customer between the fault and the last replacement breaks the promise.
    """
    fault, deadline_s = case.fault, case.contract.recovery.deadline_s
    end = min(fault.injecting + deadline_s, case.fault_end)
    case.check_load(fault.injecting, case.fault_end)
    case.run.check_watched(end)
    there = case.run.pods_at(fault.injecting)
    before = [pod for pod in there if _serves(pod) and pod.get("formation")]
    lost = [pod for pod in before if pod.get("node") in fault.nodes]
    if not lost:
        raise Inconclusive("the lost zones held no ready pod of a formation, so that none had to be rescheduled")
    known = {pod["uid"] for pod in there}
    wanted, replaced = (Counter(str(pod["formation"]) for pod in pods) for pods in (before, lost))
    back = {name: _back_at(case, name, (wanted[name], replaced[name]), known, end) for name in sorted(replaced)}
    missing = [name for name, moment in back.items() if moment is None]
    if missing and case.fault_end < fault.injecting + deadline_s:
        raise Inconclusive(
            f"the zone returned {seconds(end - fault.injecting)} after the fault, before {missing[0]} was back"
        )
    last = max((moment for moment in back.values() if moment is not None), default=end)
    acted = [
        step
        for step in case.run.of_kind("runbook.step.begin")
        if fault.injecting <= step.mono <= (end if missing else last)
    ]
    complaints = [f"{name} did not get its ready pods back within {seconds(deadline_s)}" for name in missing]
    if acted:
        complaints.append(f"{acted[0].actor} acted before all pods were back: {acted[0].get('step')}")
    took = {name: None if moment is None else round(moment - fault.injecting, 3) for name, moment in back.items()}
    return Finding(
        held=not complaints,
        figure=f"pods lost: {len(lost)}; "
        + ", ".join(f"{name} whole again after {seconds(took[name])}" for name in took),
        bound=f"ready in healthy zones within {seconds(deadline_s)}, nobody acting",
        reason=sentence("; ".join(complaints) or "all lost pods were replaced in healthy zones with nobody acting"),
        evidence={
            "lost": [{name: pod.get(name) for name in ("name", "formation", "node", "zone")} for pod in lost],
            "back_after_s": took,
            "replacements": _replacements(case, known, last),
            "steps": [{"actor": step.actor, "step": step.get("step")} for step in acted],
            "provider_acts": [dict(event.fields) for event in case.run.of_kind("provider.act")],
            "rto": case.outage_evidence(),
            "rpo": writes_evidence(case),
        },
    )


def _asks(pod: dict[str, Any], resource: str) -> int:
    return 1 if resource == "pods" else int(pod[resource])


def _rooms(capacity_event: Event, lost_zones: Sequence[str]) -> list[_Room]:
    """Return the nodes that can take pods, outside of the lost zones, with what they have free."""
    rooms = []
    for node in capacity_event["nodes"]:
        if not node["usable"] or node["zone"] in lost_zones:
            continue
        own = [pod for pod in capacity_event["assigned"] if pod["node"] == node["name"]]
        free = {name: node[name] - sum(_asks(pod, name) for pod in own) for name in _RESOURCES}
        rooms.append(_Room(node["name"], str(node["zone"]), free))
    return rooms


def _place(pods: Sequence[dict[str, Any]], rooms: Sequence[_Room]) -> list[dict[str, Any]]:
    """Place pods by first fit, the largest first, and return those that found no room."""
    largest_first = sorted(pods, key=lambda pod: (pod["memory_bytes"], pod["cpu_millis"]), reverse=True)
    return [pod for pod in largest_first if not any(room.takes(pod) for room in rooms)]


def _without_room(pods: Sequence[Event]) -> list[str]:
    return [
        f"{pod['name']}: {pod['unschedulable']}"
        for pod in pods
        if pod.get("formation") and any(word in (pod.get("unschedulable") or "") for word in _NO_ROOM)
    ]


def _zone_texts(rooms: Sequence[_Room], before: dict[str, dict[str, int]]) -> list[str]:
    zones = sorted({room.zone for room in rooms})
    texts = []
    for zone in zones:
        own = [room for room in rooms if room.zone == zone]
        free = {name: sum(before[room.node][name] for room in own) for name in _RESOURCES}
        texts.append(f"{zone} {_amount(free)}, room for {free['pods']}, takes {sum(len(room.placed) for room in own)}")
    return texts or ["no usable node in another zone"]


def _amount(amount: dict[str, int]) -> str:
    return f"{amount['cpu_millis']}m CPU, {amount['memory_bytes'] / 2**20:.0f} MiB"


def _back_at(case: Case, formation: str, wanted: tuple[int, int], known: set[str], end: float) -> float | None:
    """Return when a formation first had enough ready pods in healthy zones, None until `end`.

    `wanted` says how many it had before, and how many of them were lost: so many must be pods that are not `known`.
    """
    ready: dict[str, bool] = {}
    for event in case.run.of_kind("pod"):
        if event.mono > end:
            break
        if event.get("formation") != formation:
            continue
        ready[event["uid"]] = _serves(event) and event.get("zone") not in case.fault.zones
        serving = {uid for uid, one in ready.items() if one}
        if event.mono > case.fault.injecting and len(serving) >= wanted[0] and len(serving - known) >= wanted[1]:
            return event.mono
    return None


def _serves(pod: Event) -> bool:
    return pod["op"] != "DELETED" and bool(pod.get("node") and pod.get("ready")) and not pod.get("deleting")


def _replacements(case: Case, known: set[str], until: float) -> list[dict[str, Any]]:
    return [
        {name: pod.get(name) for name in ("name", "formation", "node", "zone")}
        for pod in case.run.pods_at(until)
        if pod.get("ready") and pod.get("formation") and pod["uid"] not in known
    ]
