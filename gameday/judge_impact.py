"""Checkers of what clients saw: no impact, impact, and impact until a zone is restored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from gameday import measure
from gameday.contract import ImpactBounds
from gameday.errors import Inconclusive
from gameday.judge_case import Case, Finding, seconds
from gameday.judge_writes import WritesRead, read_writes, writes_evidence
from gameday.records import Request

_FEWEST_ZONES_OF_AN_IMPACT = 2


@dataclass(frozen=True, slots=True)
class Impact:
    """What clients saw in a window; `exceeded` says which bounds of "no impact" were, and by what. Times in seconds."""

    operations: int
    failed: int
    error_ratio: float | None
    longest_gap_s: float
    latency_p50_s: float | None
    latency_p95_s: float | None
    latency_p95_s_max: float
    exceeded: tuple[str, ...]

    def figure(self, baseline_p95_s: float) -> str:
        """Return it as a person reads it."""
        return (
            f"{self.failed} of {self.operations} failed, longest gap {seconds(self.longest_gap_s)}, "
            f"p95 {seconds(self.latency_p95_s)} (baseline {seconds(baseline_p95_s)})"
        )


def impact_in(
    own: Sequence[Request],
    every: Sequence[Request],
    window: tuple[float, float],
    bounds: ImpactBounds,
    baseline_p95_s: float,
) -> Impact:
    """Hold the operations `own` of a window against the bounds; the gap is between the answers to `every` operation.

    A window in which nothing succeeded has no latency, which exceeds its bound.
    """
    ratio, gap = measure.error_ratio(own), measure.longest_gap_s(every, *window)
    p95, p95_max = measure.latency_s(own, 0.95), bounds.latency_p95_s_max(baseline_p95_s)
    exceeded = []
    if ratio is None or ratio > bounds.error_ratio_max:
        exceeded.append("nothing was answered" if ratio is None else f"{ratio:.2%} of the operations failed")
    if gap > bounds.longest_gap_s_max:
        exceeded.append(f"nothing succeeded for {seconds(gap)}")
    if p95 is None or p95 > p95_max:
        exceeded.append("nothing succeeded" if p95 is None else f"the 95th percentile of latency was {seconds(p95)}")
    return Impact(
        operations=len(own),
        failed=measure.failures(own),
        error_ratio=ratio,
        longest_gap_s=gap,
        latency_p50_s=measure.latency_s(own, 0.5),
        latency_p95_s=p95,
        latency_p95_s_max=p95_max,
        exceeded=tuple(exceeded),
    )


def bound_text(bounds: ImpactBounds, baseline_p95_s: float) -> str:
    """Return what "no impact" means in this run as a person reads it."""
    return (
        f"no impact: at most {bounds.error_ratio_max * 100:g} % fail, gap at most {seconds(bounds.longest_gap_s_max)}, "
        f"p95 at most {bounds.latency_p95_factor_max:g} x baseline + {seconds(bounds.latency_p95_added_s_max)} = "
        f"{seconds(bounds.latency_p95_s_max(baseline_p95_s))}"
    )


def no_impact(case: Case) -> Finding:
    """Hold the promise that clients see no impact while exactly one zone is lost, and lose no acknowledged write.

    The window is from just before the injection, as a drain takes a while, until the zone begins to return. What was in
    flight at its beginning belongs to it. The lost zone must have held a ready pod of the engine, or nothing was lost.
    """
    engine, window = case.engine, (case.fault.injecting, case.fault_end)
    if len(case.fault.zones) != 1:
        raise Inconclusive(f"{len(case.fault.zones)} zones were lost, and the promise is on one")
    case.run.check_watched(case.fault.injecting)
    lost_pods = [
        pod["name"]
        for pod in case.run.pods_at(case.fault.injecting)
        if pod.get("node") in case.fault.nodes and pod.get("ready") and engine in (pod.get("formation"), pod.get("app"))
    ]
    if not lost_pods:
        raise Inconclusive(
            f"the lost zone {case.fault.zones[0]} held no ready pod of {engine}, so that nothing was lost"
        )
    case.check_load(*window)
    case.check_in_time(*window)
    baseline, bounds, every = case.baseline_p95_s(engine), case.bounds(engine), case.requests(engine)
    seen = impact_in(measure.touched(every, *window), every, window, bounds, baseline)
    complaints = list(seen.exceeded)
    writes: WritesRead | None = None
    try:
        writes = read_writes(case, engine)
    except Inconclusive:
        # an impact stands without it; no impact does not
        if not complaints:
            raise
    if writes and writes.lost:
        complaints.append(f"{len(writes.lost)} acknowledged writes are lost")
    if writes and writes.unread and not complaints:
        raise Inconclusive(f"a place with acknowledged writes could not be read back: {writes.unread}")
    suffered = complaints and not (writes and writes.lost)
    told = "" if writes is None else f", {len(writes.lost)} of {writes.acknowledged} acknowledged writes lost"
    return Finding(
        held=not complaints,
        figure=seen.figure(baseline) + told,
        bound=f"{bound_text(bounds, baseline)}; no acknowledged write lost",
        reason=f"With {case.fault.zones[0]} lost, {'; '.join(complaints) or 'clients saw no impact'}.",
        evidence={"lost_pods": lost_pods, **_evidence(case, engine, window, seen, baseline)},
        open=case.open_if_starved(*window, "; ".join(complaints)) if suffered else "",
    )


def impact(case: Case) -> Finding:
    """Hold the promise that clients are impacted while two or more zones are lost, from the proof until one returns."""
    engine, window = case.engine, (case.fault.in_effect, case.fault_end)
    _check_zones(case)
    case.check_load(*window)
    case.check_in_time(*window)
    baseline, bounds, every = case.baseline_p95_s(engine), case.bounds(engine), case.requests(engine)
    seen = impact_in(measure.due_within(every, *window), every, window, bounds, baseline)
    return Finding(
        held=bool(seen.exceeded),
        figure=seen.figure(baseline),
        bound=f"impacted: beyond one of {bound_text(bounds, baseline)}",
        reason=f"With {' and '.join(case.fault.zones)} lost, {'; '.join(seen.exceeded) or 'clients saw no impact'}.",
        evidence=_evidence(case, engine, window, seen, baseline),
        open=case.open_if_starved(*window, "; ".join(seen.exceeded)) if seen.exceeded else "",
    )


def impact_until_restored(case: Case) -> Finding:
    """Hold the promise that the impact of two lost zones lasts until one returns, and ends then.

    From the proof until the first zone begins to return, every stretch of time must be impacted that is as long as
    success has to be sustained to be called a recovery, wherever it begins; the figure counts those that follow each
    other. After that zone is usable, success must have been sustained
    by the deadline. A load that ended before the deadline without a recovery leaves it open.
    """
    engine, fault, recovery = case.engine, case.fault, case.contract.recovery
    _check_zones(case)
    healing, deadline = case.fault_end, case.recovery_deadline
    case.check_load(fault.in_effect, case.observed_end)
    case.check_in_time(fault.in_effect, case.observed_end)
    baseline, bounds = case.baseline_p95_s(engine), case.bounds(engine)
    slices = _slices(case, engine, baseline)
    if not slices:
        raise Inconclusive(f"the zones were not lost for {seconds(recovery.sustained_s)}, the least that can be judged")
    impacted = sum(bool(one.exceeded) for one in slices)
    calm = as_before_at(case, engine, (fault.in_effect, healing))
    back = recovered_at(case, engine)
    if back is None and calm is None and case.observed_end < deadline:
        raise Inconclusive("the load ended before the service had recovered, and before the deadline")
    starved = ""
    if calm is not None:
        begin = f"{calm - fault.in_effect:.0f} s after both zones were lost"
        reason = f"Clients saw no impact from {begin}, before any was restored."
    elif back is None:
        reason = f"Success was not sustained within {seconds(recovery.deadline_s)} after a zone was usable again."
        starved = case.open_if_starved(healing, case.observed_end, reason.rstrip("."))
    else:
        reason = "The impact lasted until a zone was restored, and ended then."
        starved = case.open_if_starved(fault.in_effect, healing, "the impact lasted until a zone was restored")
    after = None if back is None else back - healing
    return Finding(
        held=calm is None and back is not None,
        figure=f"{impacted} of {len(slices)} slices of {seconds(recovery.sustained_s)} impacted, "
        + ("not recovered" if after is None else f"recovered {seconds(after)} after a zone began to return"),
        bound=f"every slice impacted; success sustained within {seconds(recovery.deadline_s)} after a zone is usable; "
        + bound_text(bounds, baseline),
        reason=reason,
        evidence={
            "slices": [asdict(one) for one in slices],
            "no_impact_after_s": None if calm is None else round(calm - fault.in_effect, 3),
            "recovered_after_healing_s": None if after is None else round(after, 3),
            "usable_after_healing_s": round(deadline - recovery.deadline_s - healing, 3),
            "rto": case.outage_evidence(),
            "rpo": writes_evidence(case),
        },
        open=starved,
    )


def _slices(case: Case, engine: str, baseline_p95_s: float) -> list[Impact]:
    """Return what clients saw in each full slice from the proof of the fault until the first zone began to return."""
    begin, length, every = case.fault.in_effect, case.contract.recovery.sustained_s, case.requests(engine)
    edges = [begin + number * length for number in range(int((case.fault_end - begin) / length) + 1)]
    return [
        impact_in(measure.due_within(every, *window), every, window, case.bounds(engine), baseline_p95_s)
        for window in pairwise(edges)
    ]


def recovered_at(case: Case, engine: str) -> float | None:
    """Return when an engine's clients had all well for as long as a recovery asks, or None.

    Looked for from when the first zone began to return until the deadline after it was usable, by which success must
    have been sustained; and it must have lasted until another zone began to return, which takes cores, or the load
    ended. See `as_before_at`.
    """
    others = [event.mono for event in case.run.of_kind("fault.healing") if event.mono > case.fault_end]
    lasts_until = min([case.observed_end, *others])
    return as_before_at(case, engine, (case.fault_end, case.recovery_deadline), lasts_until=lasts_until)


def as_before_at(
    case: Case, engine: str, within: tuple[float, float], *, lasts_until: float | None = None
) -> float | None:
    """Return when the first success was answered after which all was well for as long as a recovery asks, or None.

    Looked for `within` two moments. All was well: no operation failed in the sense of `gameday.measure.outages`, and
    the bounds of "no impact" hold; with `lasts_until` they hold for the whole time from there to that moment, too.
    """
    recovery, baseline, every = case.contract.recovery, case.baseline_p95_s(engine), case.requests(engine)

    def lasting(begin: float) -> bool:
        if lasts_until is None:
            return True
        window = (begin, lasts_until)
        own = measure.due_within(every, *window)
        return not impact_in(own, every, window, case.bounds(engine), baseline).exceeded

    return measure.first_sustained(
        every,
        *within,
        sustained_s=recovery.sustained_s,
        slow_after_s=recovery.slow_after_s_of(engine),
        well=lambda own, window: not impact_in(own, every, window, case.bounds(engine), baseline).exceeded,
        lasting=lasting,
    )


def _check_zones(case: Case) -> None:
    if len(case.fault.zones) < _FEWEST_ZONES_OF_AN_IMPACT:
        raise Inconclusive(f"{len(case.fault.zones)} zone was lost, and the promise is on two or more")


def _evidence(
    case: Case, engine: str, window: tuple[float, float], seen: Impact, baseline_p95_s: float
) -> dict[str, Any]:
    every = case.requests(engine)
    return {
        "window_s": [round(moment - case.fault.injecting, 3) for moment in window],
        "impact": asdict(seen),
        "baseline_p95_s": baseline_p95_s,
        "rate_by_operation_per_s": measure.rates_by_operation(every, *window),
        "successes_in_each_second": measure.throughput(every, *window),
        "rto": case.outage_evidence(),
        "rpo": writes_evidence(case),
    }
