"""What became of the pods that formations lost with a zone, for the checkers of all promises that they come back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gameday.errors import Inconclusive
from gameday.judge_case import Case, seconds
from gameday.timeline import Event

# the phases of a pod that has ended
OVER = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class PodsBack:
    """What became of lost pods; times are monotonic seconds.

    lost        the pods that were ready in the lost zones, and can start elsewhere
    bound       those that cannot, since their volumes are there: they wait for their zone and are not rescheduled
    known       uids of all pods that were there before
    end         until when they were waited for: the recovery deadline, or when the first zone began to return before it
    back        when each formation was whole again, None if it was not until `end`
    acted       steps of SRE and of the customer between the fault and the last replacement
    """

    case: Case
    lost: tuple[Event, ...]
    bound: tuple[Event, ...]
    known: frozenset[str]
    end: float
    back: dict[str, float | None]
    acted: tuple[Event, ...]

    @property
    def open(self) -> str | None:
        """Why nobody can tell whether they came back: it ended too early, or the machine was full. None where neither.

        That somebody acted, or that a pod had no node to go to, breaks the promise on a full machine, too.
        """
        missing, fault = self._missing, self.case.fault
        if not missing:
            return None
        if self.case.fault_end >= fault.injecting + self.case.contract.recovery.deadline_s:
            full = None if self.certain else self.case.full_before()
            return f"{missing[0]} was not back in time; but {full}" if full else None
        return f"the zone returned {seconds(self.end - fault.injecting)} after the fault, before {missing[0]} was back"

    @property
    def certain(self) -> bool:
        """Whether what breaks the promise has nothing to do with how busy the cores were, nor with what clients saw."""
        return bool(self.acted) or self._homeless

    @property
    def complaints(self) -> list[str]:
        """What breaks the promise that they come back by themselves, unless it is open."""
        within = seconds(self.case.contract.recovery.deadline_s)
        found = [f"{name} did not get its ready pods back within {within}" for name in self._missing]
        if self.acted:
            found.append(f"{self.acted[0].actor} acted before all pods were back: {self.acted[0].get('step')}")
        return found

    @property
    def figure(self) -> str:
        """What was measured as a person reads it."""
        whole = (f"{name} whole again after {seconds(took)}" for name, took in self._took.items())
        beside = f" and {len(self.bound)} that volumes bind to the lost zone" if self.bound else ""
        return f"pods lost: {len(self.lost)}{beside}; " + ", ".join(whole)

    @property
    def evidence(self) -> dict[str, Any]:
        """The numbers, with times relative to the fault."""
        last = max((moment for moment in self.back.values() if moment is not None), default=self.end)
        return {
            "lost": [_shown(pod) for pod in self.lost],
            "bound_to_the_zone": [_shown(pod) for pod in self.bound],
            "back_after_s": {name: None if took is None else round(took, 3) for name, took in self._took.items()},
            "replacements": [
                _shown(pod)
                for pod in self.case.run.pods_at(last)
                if pod.get("ready") and runs_for_good(pod) and pod["uid"] not in self.known
            ],
            "steps": [{"actor": step.actor, "step": step.get("step")} for step in self.acted],
            "provider_acts": [dict(event.fields) for event in self.case.run.of_kind("provider.act")],
        }

    @property
    def _missing(self) -> list[str]:
        return [name for name, moment in self.back.items() if moment is None]

    @property
    def _homeless(self) -> bool:
        """Whether a pod of what is missing had no node at the end, which has nothing to do with cores that are busy.

        One that waits for the lost zone, as its volume is there, is none of those that are missed.
        """
        there = [pod for pod in self.case.run.pods_at(self.end) if not is_bound(pod, self.case.fault.zones)]
        return any(pod.get("unschedulable") and pod.get("formation") in self._missing for pod in there)

    @property
    def _took(self) -> dict[str, float | None]:
        began = self.case.fault.injecting
        return {name: None if moment is None else moment - began for name, moment in self.back.items()}


def pods_back(case: Case, formation: str | None = None) -> PodsBack:
    """Return what became of the pods that a formation lost with the zone, or of those of all formations.

    A formation is whole again when it has as many ready pods in the zones that are left as it had in all before, and
    for each lost one a pod that was not there before. Pods that work for a workload are left out: its engine replaces
    those; and pods that a volume binds to a lost zone, which Kubernetes can start nowhere else. Raises Inconclusive
    where no other pod was lost, or where what was seen of pods may have holes.
    """
    fault = case.fault
    end = min(fault.injecting + case.contract.recovery.deadline_s, case.fault_end)
    case.run.check_watched(end)
    there = case.run.pods_at(fault.injecting)
    wanted_formations = [pod for pod in there if formation in (None, pod.get("formation"))]
    serving = [pod for pod in wanted_formations if serves(pod) and runs_for_good(pod)]
    bound = [pod for pod in serving if is_bound(pod, fault.zones)]
    before = [pod for pod in serving if pod not in bound]
    lost = [pod for pod in before if pod.get("node") in fault.nodes]
    if not lost:
        raise Inconclusive(
            f"the lost zones held no ready pod of {formation or 'a formation'}, so that none had to be rescheduled"
        )
    known = frozenset(pod["uid"] for pod in there)
    wanted, replaced = (Counter(str(pod["formation"]) for pod in pods) for pods in (before, lost))
    back = {name: _back_at(case, name, (wanted[name], replaced[name]), known, end) for name in sorted(replaced)}
    last = end if None in back.values() else max(moment for moment in back.values() if moment is not None)
    steps = case.run.of_kind("runbook.step.begin")
    acted = tuple(step for step in steps if fault.injecting <= step.mono <= last)
    return PodsBack(case, tuple(lost), tuple(bound), known, end, back, acted)


def serves(pod: Event) -> bool:
    """Tell whether a pod was at work, by what was last seen of it."""
    return pod["op"] != "DELETED" and bool(pod.get("node") and pod.get("ready")) and not pod.get("deleting")


def is_going(pod: Event) -> bool:
    """Tell whether a pod was gone, over, or told to go, by what was last seen of it."""
    return pod["op"] == "DELETED" or bool(pod.get("deleting")) or pod.get("phase") in OVER


def runs_for_good(pod: Event) -> bool:
    """Tell whether a formation runs a pod for good, and not for a workload."""
    return bool(pod.get("formation")) and not pod.get("workload")


def is_bound(pod: Event | dict[str, Any], zones: Sequence[str]) -> bool:
    """Tell whether the volumes of a pod can only be mounted in one of these zones."""
    return pod.get("bound_to") in zones


def _back_at(case: Case, formation: str, wanted: tuple[int, int], known: frozenset[str], end: float) -> float | None:
    """Return when a formation first had enough ready pods in healthy zones, None until `end`.

    `wanted` says how many it had before, and how many of them were lost: so many must be pods that are not `known`.
    """
    ready: dict[str, bool] = {}
    for event in case.run.of_kind("pod"):
        if event.mono > end:
            break
        if event.get("formation") != formation or not runs_for_good(event):
            continue
        ready[event["uid"]] = serves(event) and event.get("zone") not in case.fault.zones
        serving = {uid for uid, one in ready.items() if one}
        if event.mono > case.fault.injecting and len(serving) >= wanted[0] and len(serving - known) >= wanted[1]:
            return event.mono
    return None


def _shown(pod: Event) -> dict[str, Any]:
    return {name: pod.get(name) for name in ("name", "formation", "node", "zone")}
