"""Checker of Presto in a zone outage: queries in flight fail, its pods are rescheduled, and queries work again."""

from __future__ import annotations

from collections.abc import Sequence

from gameday import measure
from gameday.errors import Inconclusive
from gameday.judge_case import Case, Finding, seconds, sentence
from gameday.judge_pods import PodsBack, pods_back, serves
from gameday.judge_workloads import (
    Answer,
    error_text,
    in_flight,
    must_have_failed,
    named,
    unless_starved,
    workload_evidence,
)
from gameday.judge_writes import writes_evidence
from gameday.records import Workload
from gameday.timeline import Event

# Presto's numbers below this are errors of who asked: bad SQL, a cancelled query, one whose client stopped asking
_FIRST_ERROR_OF_ITS_OWN = 0x0001_0000
_WORKER = "presto-worker"


def queries_fail_rescheduled(case: Case) -> Finding:
    """Hold the promise that queries in flight fail with a zone, and that Presto's pods are rescheduled.

    Every long query that was in flight must have failed within the time that the contract gives, by Presto's own word
    or with a lost coordinator. The pods that Presto lost must come back as those of all formations must. And queries
    must work again, sustained, by the recovery deadline after the fault, while the zone is lost, and then fail no more
    for longer than "no impact" allows; where it returned before that, pods or queries that were not back leave it open.
    Pods that had no node to go to break it also where clients saw too little to judge by.
    """
    if len(case.fault.zones) != 1:
        raise Inconclusive(f"{len(case.fault.zones)} zones were lost, and what is left need not hold the pods of two")
    back = pods_back(case, case.engine)
    try:
        return _with_clients(case, back)
    except Inconclusive:
        if back.open or not (back.certain and back.complaints):
            raise
    reason = sentence("; ".join(back.complaints))
    return Finding(held=False, figure=back.figure, bound=_bound(case), reason=reason, evidence=back.evidence)


def _bound(case: Case) -> str:
    return (
        f"each query in flight fails within {seconds(case.contract.workloads.fails_within_s)}; pods ready in healthy "
        f"zones, nobody acting, and success sustained, within {seconds(case.contract.recovery.deadline_s)}"
    )


def _with_clients(case: Case, back: PodsBack) -> Finding:
    """Judge by what became of the pods and of clients' queries; raises Inconclusive where these say too little."""
    case.check_load(case.fault.injecting, case.fault_end)
    case.check_in_time(case.fault.injecting, case.fault_end)
    baseline, queries = case.baseline_p95_s(case.engine), in_flight(case, "long_query")
    if not queries:
        raise Inconclusive("no query was in flight when the zone was lost, so that none could fail")
    works, works_answer = _works_again(case)
    within_s = case.contract.workloads.fails_within_s
    answers = [*(_failed(case, query, back.lost, within_s) for query in queries), works_answer]
    complaints = [*(one.complaint for one in answers if one.complaint), *([] if back.open else back.complaints)]
    unknown = [*(one.open for one in answers if one.open), *([back.open] if back.open else [])]
    if unknown and not complaints:
        raise Inconclusive(unknown[0])
    again = "queries do not work again" if works is None else f"queries work again {seconds(works)} after the fault"
    return Finding(
        held=not complaints,
        figure=f"{_failed_text(case, queries)}; {back.figure}; {again}",
        bound=_bound(case),
        reason=sentence(
            "; ".join(complaints) or "queries in flight failed, the lost pods were replaced, and queries work again"
        ),
        evidence={
            "in_flight": [workload_evidence(case, query) for query in queries],
            "works_again_after_s": None if works is None else round(works, 3),
            "baseline_p95_s": baseline,
            **back.evidence,
            "rto": case.outage_evidence(),
            "rpo": writes_evidence(case),
        },
    )


def _failed(case: Case, query: Workload, lost: Sequence[Event], within_s: float) -> Answer:
    """Hold that a query failed by the loss of the zone, and neither by its own fault nor for an unknown reason."""
    answer = must_have_failed(case, query, within_s)
    if answer.complaint and (elsewhere := _perhaps_elsewhere(case, query)):
        return Answer(open=elsewhere)
    code = query.last.error_code
    if answer.complaint or answer.open or (code is not None and code >= _FIRST_ERROR_OF_ITS_OWN):
        return answer
    if code is not None:
        return Answer(open=f"{named(query)} failed by the doing of who asked{error_text(query.last)}")
    if any("coordinator" in (pod.get("app") or pod["name"]) for pod in lost):
        return answer
    why = f"{named(query)} failed{error_text(query.last)}"
    return Answer(open=f"{why}, which is no error of Presto's own, and its coordinator was not lost")


def _perhaps_elsewhere(case: Case, query: Workload) -> str | None:
    """Tell that a query had no work on some of the workers, so that those that were lost may be such; None if not."""
    injecting = case.fault.injecting
    seen = [step.details["nodes"] for step in query.steps if step.mono <= injecting and "nodes" in step.details]
    workers = [pod for pod in case.run.pods_at(injecting) if pod.get("app") == _WORKER and serves(pod)]
    if not seen or seen[-1] >= len(workers):
        return None
    return f"{named(query)} was on {seen[-1]} of {len(workers)} workers, perhaps on none that was lost"


def _works_again(case: Case) -> tuple[float | None, Answer]:
    """Return after how many seconds queries worked again, None if they did not, and what that says."""
    fault, recovery = case.fault, case.contract.recovery
    deadline, every = fault.injecting + recovery.deadline_s, case.requests(case.engine)
    sustained_s, slow_after_s = recovery.sustained_s, recovery.slow_after_s_of(case.engine)

    def lasting(begin: float) -> bool:
        after = measure.due_within(every, begin, case.fault_end)
        failing_s = measure.longest_failing_s(after, sustained_s=sustained_s, slow_after_s=slow_after_s)
        return failing_s <= case.bounds(case.engine).longest_gap_s_max

    moment = measure.first_sustained(
        every,
        fault.injecting,
        min(deadline, case.fault_end),
        sustained_s=sustained_s,
        slow_after_s=slow_after_s,
        lasting=lasting,
    )
    if moment is not None:
        return moment - fault.injecting, Answer()
    if case.fault_end < deadline:
        after = seconds(case.fault_end - fault.injecting)
        return None, Answer(open=f"the zone returned {after} after the fault, before queries worked again")
    complaint = f"queries did not work again within {seconds(recovery.deadline_s)}"
    return None, unless_starved(case, complaint, fault.injecting, case.fault_end)


def _failed_text(case: Case, queries: Sequence[Workload]) -> str:
    failed = [query.last for query in queries if query.last.state == "failed"]
    when = ", ".join(f"{seconds(last.mono - case.fault.injecting)}{error_text(last)}" for last in failed)
    return f"{len(failed)} of {len(queries)} queries in flight failed" + (f" after {when}" if when else "")
