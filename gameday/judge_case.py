"""What all checkers of the judge share: the case put to them, their findings, and what a run must show first."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from gameday import measure
from gameday.contract import Contract, ContractPromise, ImpactBounds
from gameday.errors import Inconclusive
from gameday.reading import RunFolder, SeenFault
from gameday.records import Request

# Seconds are one after the other where no more than this is between them.
_APART_S = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """What a checker found: whether the promise was kept, the figure and its bound in words, and the numbers.

    Where `open` says why nobody can tell, `held` means nothing; figure and numbers are what was seen all the same.
    """

    held: bool
    figure: str
    bound: str
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)
    open: str = ""


@dataclass(frozen=True)
class Case:
    """One promise, and the run that it is judged from."""

    run: RunFolder
    contract: Contract
    promise: ContractPromise

    @property
    def fault(self) -> SeenFault:
        """The fault of the run; raises Inconclusive where it was not proved."""
        return self.run.fault

    @property
    def fault_end(self) -> float:
        """When the first zone began to return; raises Inconclusive where the fault outlasted the load."""
        if self.fault.healing is None or self.fault.healing > self.run.load_end:
            raise Inconclusive("no zone was restored while clients were at work, so that the fault outlasted the load")
        return self.fault.healing

    @property
    def observed_end(self) -> float:
        """When the last operation was due, of the engine whose load ended first; its load must have ended in order."""
        ends = [max((request.intended for request in self.requests(engine)), default=0.0) for engine in self.engines]
        return min([self.run.load_end, *ends])

    @property
    def recovery_deadline(self) -> float:
        """By when success must have been sustained, counted from when the first zone was usable again.

        Raises Inconclusive where none was while clients were at work.
        """
        if self.fault.healed is None or self.fault.healed > self.run.load_end:
            raise Inconclusive("no zone was usable again while clients were at work, so that no recovery could be seen")
        return self.fault.healed + self.contract.recovery.deadline_s

    @cached_property
    def engines(self) -> list[str]:
        """The engines whose clients count: the promise's own, or all that were under load."""
        loaded = [str(event["engine"]) for event in self.run.of_kind("load.begin")]
        if self.promise.engine in ("all", "customer"):
            return loaded
        if self.promise.engine not in loaded:
            raise Inconclusive(f"{self.promise.engine} was not under load")
        return [self.promise.engine]

    @property
    def engine(self) -> str:
        """The engine of a promise on one engine."""
        return self.engines[0]

    def requests(self, engine: str) -> list[Request]:
        """Return the operations of an engine's clients, ordered by their intended start."""
        return [request for request in self.run.requests if request.engine == engine]

    def bounds(self, engine: str) -> ImpactBounds:
        """Return what "no impact" allows an engine."""
        return self.contract.impact.of(engine)

    def check_load(self, begin: float, end: float) -> None:
        """Raise Inconclusive where clients did not press on the service as declared, from `begin` to `end`."""
        evidence, (baseline_begin, baseline_end) = self.contract.evidence, self.run.phase("baseline")
        if baseline_end > self.fault.injecting:
            raise Inconclusive("the baseline did not end before the fault")
        for engine in self.engines:
            requests = self.requests(engine)
            for name, window in (("baseline", (baseline_begin, baseline_end)), ("fault", (begin, end))):
                silent = measure.silences(requests, *window, evidence.silence_s_max)
                if silent:
                    after, lasted = silent[0][0] - window[0], silent[0][1] - silent[0][0]
                    raise Inconclusive(
                        f"no operation of {engine} was due for {lasted:.1f} s, {after:.1f} s into the {name}"
                    )
                declared, length = self._declared_per_s(engine), window[1] - window[0]
                seen = measure.rate_per_s(requests, *window)
                allowed = evidence.rate_deviation_max * declared + measure.largest_burst(requests) / length
                if abs(seen - declared) > allowed:
                    raise Inconclusive(
                        f"the load of {engine} in the {name} was {seen:.2f} a second, declared are {declared:g}"
                        f" ± {allowed:.2f} in {length:.1f} s"
                    )

    def check_in_time(self, begin: float, end: float) -> None:
        """Raise Inconclusive where the load sent its operations so late that latency is not the service's alone.

        Looked at in the baseline and from `begin` to `end`. Whoever judges by when clients were answered asks for it.
        Nor is a baseline a measure in which others took the machine's cores.
        """
        evidence = self.contract.evidence
        if why := self.others_took(*self.run.phase("baseline")):
            raise Inconclusive(f"the baseline is no measure: {why}")
        for engine in self.engines:
            for name, window in (("baseline", self.run.phase("baseline")), ("fault", (begin, end))):
                delays = measure.start_delays_s(measure.due_within(self.requests(engine), *window))
                p95, longest = measure.percentile(delays, 0.95) or 0.0, max(delays, default=0.0)
                if p95 > evidence.start_delay_p95_s_max or longest > evidence.start_delay_s_max:
                    raise Inconclusive(
                        f"the load of {engine} was itself late in the {name}: it sent operations up to"
                        f" {seconds(longest)} after they were due (95th percentile {seconds(p95)})"
                    )

    def open_if_starved(self, begin: float, end: float, found: str) -> str:
        """Return why a finding is open where the lakehouse lacked cores from `begin` to `end`; empty where it did not.

        Whoever says that clients suffered asks for it, since that may be why; `found` is what would be said.
        """
        why = self.others_took(begin, end) or self.full_before()
        return f"{found}; but {why}" if why else ""

    def full_before(self) -> str | None:
        """Tell that the machine had too little idle in the baseline to take in what a fault costs; None if it had.

        Of a run that was never told whose the cores were nothing is asked.
        """
        idle, least = self.run.baseline_idle_cores, self.contract.evidence.cores_idle_min
        if idle is None or idle >= least:
            return None
        return f"the machine was full before the fault: {idle:.2f} of a core was idle, and {least:g} must be"

    def others_took(self, begin: float, end: float) -> str | None:
        """Tell when others took the most cores that the lakehouse wanted, or for how long nobody looked; None if never.

        What was idle was wanted by nobody. Of a run that was never told whose the cores were nothing is asked.
        """
        evidence, samples = self.contract.evidence, self.run.of_kind("machine")
        if not samples:
            return None
        seen = [one for one in samples if begin < one.mono and one.mono - one["seconds"] < end]
        edges = [begin, *(edge for one in seen for edge in (one.mono - one["seconds"], one.mono)), end]
        unseen_s = max(later - earlier for earlier, later in zip(edges[::2], edges[1::2], strict=True))
        if unseen_s > evidence.silence_s_max:
            return f"for {seconds(unseen_s)} nobody looked whose the machine's cores were"
        kept: list[tuple[float, float]] = []
        for first, last in pairwise(seen):
            both_s = first["seconds"] + last["seconds"]
            if last.mono - both_s - (first.mono - first["seconds"]) > _APART_S:
                continue
            lacking = ((one["others"] + one["stolen"] - one["idle"]) * one["seconds"] for one in (first, last))
            kept.append((sum(lacking) / both_s, last.mono - both_s - self.fault.injecting))
        most, after_s = max(kept, default=(0.0, 0.0))
        if most <= evidence.cores_taken_max:
            return None
        when = f"{seconds(abs(after_s))} {'after' if after_s >= 0 else 'before'} the fault"
        return f"{when} others took {most:.1f} of the machine's cores, which the lakehouse wanted"

    def _declared_per_s(self, engine: str) -> float:
        event = self.run.first("load.begin", engine=engine)
        if event is None or not event.get("requests_per_s"):
            raise Inconclusive(f"the rate of the load of {engine} was not declared")
        return float(event["requests_per_s"])

    def baseline_p95_s(self, engine: str) -> float:
        """Return the 95th percentile of latency before the fault; raises Inconclusive for an unhealthy baseline.

        Operations that were in flight when the fault was injected are not part of it.
        """
        begin, end = self.run.phase("baseline")
        requests = self.requests(engine)
        own = self.run.baseline_of(engine)
        if len(own) < self.contract.evidence.baseline_requests_min_of(engine):
            raise Inconclusive(f"the baseline of {engine} has {len(own)} operations, too few to compare with")
        ratio, bounds = measure.error_ratio(own), self.bounds(engine)
        gap = measure.longest_gap_s(requests, begin, end)
        p95 = measure.latency_s(own, 0.95)
        if p95 is None or ratio is None or ratio > bounds.error_ratio_max or gap > bounds.longest_gap_s_max:
            raise Inconclusive(
                f"{engine} was not healthy before the fault: {ratio or 0:.2%} failed, longest gap {gap:.1f} s"
            )
        if p95 > (slow := self.contract.recovery.slow_after_s_of(engine)):
            # three times of what counts as an outage would hide one
            raise Inconclusive(
                f"{engine} was not healthy before the fault: the 95th percentile of latency was {seconds(p95)}, and an"
                f" answer after more than {seconds(slow)} counts as a failure"
            )
        return p95

    def outage_evidence(self) -> dict[str, Any]:
        """Return the outages of each engine since the fault, with times relative to it: what RTO is read from."""
        return {engine: self._outages(engine) for engine in self.engines}

    def _outages(self, engine: str) -> dict[str, Any]:
        recovery, fault = self.contract.recovery, self.fault
        requests = [request for request in self.requests(engine) if request.ended > fault.injecting]
        found = measure.outages(
            requests, sustained_s=recovery.sustained_s, slow_after_s=recovery.slow_after_s_of(engine)
        )
        lengths = [outage.length_s for outage in found]
        return {
            "rto_s": None if None in lengths else round(max((s for s in lengths if s is not None), default=0.0), 3),
            "rto_resolution_s": measure.resolution_s(requests),
            "outages": [
                {
                    "from_s": round(outage.started - fault.injecting, 3),
                    "to_s": None if outage.ended is None else round(outage.ended - fault.injecting, 3),
                    "failed": outage.failed,
                }
                for outage in found
            ],
        }


def seconds(value: float | None) -> str:
    """Return a length of time as a person reads it."""
    if value is None:
        return "none"
    return f"{value * 1000:.0f} ms" if abs(value) < 1 else f"{value:.1f} s"


def sentence(text: str) -> str:
    """Return a clause as a sentence."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
