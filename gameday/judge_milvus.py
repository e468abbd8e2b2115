"""Checkers of Milvus in a zone outage: metadata goes on; searches in flight fail, and all is as before soon after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gameday import measure
from gameday.errors import Inconclusive
from gameday.judge_case import Case, Finding, seconds, sentence
from gameday.judge_impact import as_before_at, bound_text, recovered_at
from gameday.judge_pods import serves
from gameday.judge_workloads import (
    Answer,
    error_text,
    in_flight,
    must_have_failed,
    named,
    unless_starved,
    workload_evidence,
)
from gameday.judge_writes import read_writes, writes_evidence
from gameday.records import Workload

# What clients do with metadata, by the names of `loadgen.schedule`: reads, and writes whose items the ledger has.
_METADATA = {"reads": "describe_collection", "writes": "create_partition"}
_FORMATION = "milvus"


def metadata_goes_on(case: Case) -> Finding:
    """Hold the promise that metadata is read and written on while one zone is lost, and that none is lost.

    Reads and writes each: success is never farther apart than "no impact" allows, from just before the injection until
    the zone begins to return; and once that time has passed after the injection, no more than "no impact" allows fail.
    What fails before that is what was in flight in the lost zone. Every acknowledged write must be read back. The lost
    zone must have held a ready pod of Milvus whose volume is there (its metadata), or nothing of it was lost.
    """
    window, bounds = (case.fault.injecting, case.fault_end), case.bounds(case.engine)
    members = _lost_members(case)
    case.check_load(*window)
    case.check_in_time(*window)
    case.baseline_p95_s(case.engine)
    settled = min(window[1], window[0] + bounds.longest_gap_s_max)
    complaints, told, numbers = [], [], {}
    for what, operation in _METADATA.items():
        own = [request for request in case.requests(case.engine) if request.operation == operation]
        if not measure.due_within(own, settled, window[1]):
            raise Inconclusive(f"no {what} of metadata were due while the zone was lost")
        gap, late = measure.longest_gap_s(own, *window), measure.due_within(own, settled, window[1])
        ratio = measure.error_ratio(late)
        if gap > bounds.longest_gap_s_max:
            complaints.append(f"no {what} of metadata succeeded for {seconds(gap)}")
        if ratio is None or ratio > bounds.error_ratio_max:
            share = "all" if ratio is None else f"{ratio:.2%}"
            complaints.append(f"{share} of the {what} of metadata failed later than {seconds(settled - window[0])}")
        every = measure.touched(own, *window)
        told.append(f"{what}: {measure.failures(every)} of {len(every)} failed, longest gap {seconds(gap)}")
        numbers[what] = {"operations": len(every), "failed": measure.failures(every), "longest_gap_s": round(gap, 3)}
    lost = _lost_metadata(case, told, stands=bool(complaints))
    starved = case.open_if_starved(*window, "; ".join(complaints)) if complaints and not lost else ""
    complaints += lost
    return Finding(
        held=not complaints,
        figure="; ".join(told),
        bound=f"gap between successes at most {seconds(bounds.longest_gap_s_max)}; later than that at most "
        f"{bounds.error_ratio_max * 100:g} % fail; no acknowledged write lost",
        reason=sentence("; ".join(complaints) or f"metadata went on without {' and '.join(members)}"),
        evidence={
            "lost_members": members,
            "metadata": numbers,
            "rto": case.outage_evidence(),
            "rpo": writes_evidence(case),
        },
        open=starved,
    )


def searches_fail_recover(case: Case) -> Finding:
    """Hold the promise that searches in flight fail with their zone, and that there is no long-term impact.

    Every search that was in flight on a replica in the lost zone, by the replica's own word, must have failed within
    the time that the contract gives; those elsewhere may end as they like. Throughput and latency must be those of the
    baseline again, sustained, by the recovery deadline after the fault while the zone is lost, and once more after it
    returned: every operation that was due is answered, and none of the bounds of "no impact" is exceeded, from there
    until the zone begins to return, or the load ends.
    """
    engine, fault = case.engine, case.fault
    if len(fault.zones) != 1:
        raise Inconclusive(f"{len(fault.zones)} zones were lost, and the promise is on one")
    case.check_load(fault.injecting, case.fault_end)
    case.check_in_time(fault.injecting, case.fault_end)
    baseline, within_s = case.baseline_p95_s(engine), case.contract.workloads.fails_within_s
    lost = _lost_replicas(case)
    searches = in_flight(case, "long_search")
    hit = [search for search in searches if search.detail("replica") in lost]
    unplaced = [search for search in searches if search.detail("replica") is None]
    if not hit and not unplaced:
        raise Inconclusive("no search was in flight in the lost zone, so that none could fail")
    answers = [must_have_failed(case, search, within_s) for search in hit]
    answers += [_unplaced(case, search, within_s) for search in unplaced]
    while_lost, answer = _as_before(case)
    answers.append(answer)
    after, answer = _as_before_after(case)
    answers.append(answer)
    complaints = [one.complaint for one in answers if one.complaint]
    unknown = [one.open for one in answers if one.open]
    if unknown and not complaints:
        raise Inconclusive(unknown[0])
    back = [
        f"as before {seconds(while_lost)} after the fault" if while_lost is not None else "not as before",
        f"{seconds(after)} after the zone began to return" if after is not None else "not after the zone returned",
    ]
    return Finding(
        held=not complaints,
        figure=f"{_failed_text(case, [*hit, *unplaced])}; {', and '.join(back)}",
        bound=f"each fails within {seconds(within_s)}; then, within {seconds(case.contract.recovery.deadline_s)}, "
        f"{bound_text(case.bounds(engine), baseline)}",
        reason=sentence("; ".join(complaints) or "searches in flight in the lost zone failed, and no impact lasted"),
        evidence={
            "in_flight": [{**workload_evidence(case, one), "replica": one.detail("replica")} for one in searches],
            "lost_replicas": sorted(lost),
            "as_before_after_s": while_lost and round(while_lost, 3),
            "as_before_after_healing_s": after and round(after, 3),
            "baseline_p95_s": baseline,
            "rto": case.outage_evidence(),
            "rpo": writes_evidence(case),
        },
    )


def _lost_pods(case: Case) -> list[Any]:
    case.run.check_watched(case.fault.injecting)
    there = case.run.pods_at(case.fault.injecting)
    lost = [pod for pod in there if pod.get("node") in case.fault.nodes and pod.get("formation") == _FORMATION]
    return [pod for pod in lost if serves(pod)]


def _lost_members(case: Case) -> list[str]:
    if len(case.fault.zones) != 1:
        raise Inconclusive(f"{len(case.fault.zones)} zones were lost, and the promise is on one")
    members = [str(pod["name"]) for pod in _lost_pods(case) if pod.get("bound_to") in case.fault.zones]
    if not members:
        raise Inconclusive("the lost zone held no ready pod with state of milvus, so that no metadata was lost")
    return sorted(members)


def _lost_replicas(case: Case) -> frozenset[str]:
    replicas = frozenset(str(pod["name"]) for pod in _lost_pods(case) if not pod.get("bound_to"))
    if not replicas:
        raise Inconclusive("the lost zone held no ready replica of milvus, so that no search was lost")
    return replicas


def _lost_metadata(case: Case, told: list[str], *, stands: bool) -> list[str]:
    """Return what is lost as complaints, and tell of it; what is missing leaves it open unless a complaint stands."""
    try:
        writes = read_writes(case, case.engine)
    except Inconclusive:
        if stands:
            return []
        raise
    if writes.unread and not (stands or writes.lost):
        raise Inconclusive(f"a place with acknowledged writes could not be read back: {writes.unread}")
    told.append(f"{len(writes.lost)} of {writes.acknowledged} acknowledged writes lost")
    return [f"{len(writes.lost)} acknowledged writes are lost"] if writes.lost else []


def _unplaced(case: Case, search: Workload, within_s: float) -> Answer:
    """Hold a search of which nobody says where it was: only one that failed fits whatever the place."""
    answer = must_have_failed(case, search, within_s)
    if not answer.complaint:
        return answer
    return Answer(open=f"on which replica {named(search)} was is not known, and it did not fail")


def _as_before(case: Case) -> tuple[float | None, Answer]:
    """Return after how many seconds all was as before while the zone was lost, None if never, and what that says."""
    fault, recovery = case.fault, case.contract.recovery
    deadline = fault.injecting + recovery.deadline_s
    within = (fault.injecting, min(deadline, case.fault_end))
    moment = as_before_at(case, case.engine, within, lasts_until=case.fault_end)
    if moment is not None:
        return moment - fault.injecting, Answer()
    if case.fault_end < deadline:
        lasted = seconds(case.fault_end - fault.injecting)
        return None, Answer(open=f"the zone returned {lasted} after the fault, before all was as before")
    complaint = f"throughput and latency were not as before within {seconds(recovery.deadline_s)}"
    return None, unless_starved(case, complaint, fault.injecting, case.fault_end)


def _as_before_after(case: Case) -> tuple[float | None, Answer]:
    """Return after how many seconds from its beginning to return all was as before, and what that says."""
    moment = recovered_at(case, case.engine)
    if moment is not None:
        return moment - case.fault_end, Answer()
    if case.observed_end < case.recovery_deadline:
        return None, Answer(open="the load ended before all was as before, and before the deadline")
    complaint = "throughput and latency were not as before after the zone returned"
    return None, unless_starved(case, complaint, case.fault_end, case.observed_end)


def _failed_text(case: Case, searches: Sequence[Workload]) -> str:
    failed = [search.last for search in searches if search.last.state == "failed"]
    after = sorted(last.mono - case.fault.injecting for last in failed)
    # once, where the first and the last are the same to a reader
    span = " to ".join(dict.fromkeys(seconds(moment) for moment in (*after[:1], *after[-1:])))
    when = f" after {span}{error_text(failed[0])}" if failed else ""
    return f"{len(failed)} of {len(searches)} searches in flight in the lost zone failed{when}"
