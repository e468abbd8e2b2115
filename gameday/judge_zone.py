"""Checkers of what Kubernetes did with the pods of a lost zone: had they room, and did they come back alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gameday.errors import Inconclusive
from gameday.judge_case import Case, Finding, seconds, sentence
from gameday.judge_pods import is_bound, pods_back
from gameday.judge_writes import writes_evidence
from gameday.timeline import Event

# what the scheduler says of a pod that no node has the room for; other words are about taints and topology
_NO_ROOM = ("Insufficient", "Too many pods")
_RESOURCES = ("cpu_millis", "memory_bytes", "pods")
# what is looked through in some seconds
_WAYS_MAX = 200_000


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

    Arithmetic: what the pods of formations and workloads on the lost nodes ask for fits, in one way at least, into what
    the usable nodes of the other zones had free just before the fault.
    Seen: no such pod was still without a node for lack of resources at the deadline; where the fault ended earlier, one
    that was waiting then leaves it open. Constraints other than resources are no matter of capacity. Pods that a
    volume binds to a lost zone are left out: no other zone could take them, whatever room it has.
    """
    fault = case.fault
    case.check_load(fault.injecting, case.fault_end)
    case.run.check_watched(case.fault_end)
    known = [event for event in case.run.of_kind("capacity") if event.mono < fault.injecting]
    if not known:
        raise Inconclusive("what the nodes had free before the fault was not read")
    there = [
        pod for pod in known[-1]["assigned"] if pod["node"] in fault.nodes and not pod.get("daemon") and _is_ours(pod)
    ]
    lost = [pod for pod in there if not is_bound(pod, fault.zones)]
    if not lost:
        raise Inconclusive("the lost zones held no pods that can start elsewhere, so that none had to be taken in")
    rooms = _rooms(known[-1], fault.zones)
    before = {room.node: dict(room.free) for room in rooms}
    homeless = _place(lost, rooms)
    deadline = fault.injecting + case.contract.recovery.deadline_s
    waiting = [pod for pod in case.run.pods_at(min(deadline, case.fault_end)) if not is_bound(pod, fault.zones)]
    stuck = _without_room(waiting)
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
            "bound_to_the_zone": [pod["name"] for pod in there if pod not in lost],
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

    Each formation must be whole again (see `gameday.judge_pods.pods_back`) within the recovery deadline after the fault
    began, and before a zone returns. Where the zone returned earlier than that deadline and the pods were not back yet,
    the situation ended too early to tell. A step of SRE or of the customer between the fault and the last replacement
    breaks the promise. Pods that work for a workload are not judged here.
    """
    case.check_load(case.fault.injecting, case.fault_end)
    back = pods_back(case)
    if back.open:
        raise Inconclusive(back.open)
    complaints = "; ".join(back.complaints)
    return Finding(
        held=not complaints,
        figure=back.figure,
        bound=f"ready in healthy zones within {seconds(case.contract.recovery.deadline_s)}, nobody acting",
        reason=sentence(complaints or "all lost pods were replaced in healthy zones with nobody acting"),
        evidence={**back.evidence, "rto": case.outage_evidence(), "rpo": writes_evidence(case)},
    )


def _asks(pod: dict[str, Any], resource: str) -> int:
    return 1 if resource == "pods" else int(pod[resource])


def _is_ours(pod: Event | dict[str, Any]) -> bool:
    return bool(pod.get("formation") or pod.get("workload"))


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
    """Place pods, and return those for which there is no room, however the others are placed.

    By first fit, the largest first; where that leaves some without, all ways to place them are looked through, and then
    those without are what first fit left. Raises Inconclusive where there are too many ways.
    """
    largest_first = sorted(pods, key=lambda pod: (pod["memory_bytes"], pod["cpu_millis"]), reverse=True)
    before = [dict(room.free) for room in rooms]
    homeless = [pod for pod in largest_first if not any(room.takes(pod) for room in rooms)]
    if not homeless:
        return []
    needs = [tuple(_asks(pod, name) for name in _RESOURCES) for pod in largest_first]
    numbers = _placement(needs, [tuple(free[name] for name in _RESOURCES) for free in before])
    if numbers is None:
        return homeless
    for room, free in zip(rooms, before, strict=True):
        room.free, room.placed = free, []
    return [pod for pod, number in zip(largest_first, numbers, strict=True) if not rooms[number].takes(pod)]


def _placement(needs: Sequence[tuple[int, ...]], free: Sequence[tuple[int, ...]]) -> list[int] | None:
    """Return into which room each goes so that all fit, None where no way is; raises Inconclusive for too many."""
    seen: set[tuple[int, tuple[tuple[int, ...], ...]]] = set()

    def place(number: int, left: tuple[tuple[int, ...], ...]) -> list[int] | None:
        if number == len(needs):
            return []
        if (number, left) in seen:
            return None
        seen.add((number, left))
        if len(seen) > _WAYS_MAX:
            raise Inconclusive("whether the lost pods fit could not be told: there are too many ways to place them")
        for room, has in enumerate(left):
            rest = tuple(there - asked for there, asked in zip(has, needs[number], strict=True))
            if min(rest) >= 0:
                others = place(number + 1, (*left[:room], rest, *left[room + 1 :]))
                if others is not None:
                    return [room, *others]
        return None

    return place(0, tuple(free))


def _without_room(pods: Sequence[Event]) -> list[str]:
    return [
        f"{pod['name']}: {pod['unschedulable']}"
        for pod in pods
        if _is_ours(pod) and any(word in (pod.get("unschedulable") or "") for word in _NO_ROOM)
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
