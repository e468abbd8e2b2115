"""Workloads (long queries, long searches, jobs) as checkers see them: in flight at the fault, and how they ended."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from gameday.judge_case import Case, seconds
from gameday.records import ENDED, Workload, WorkloadStep

_ERROR_LENGTH_MAX = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """What one part of a promise came to: at most one of what breaks it, and why nobody can tell."""

    complaint: str | None = None
    open: str | None = None


def unless_starved(case: Case, complaint: str, begin: float, end: float) -> Answer:
    """Complain of how soon clients were answered, unless the lakehouse lacked cores meanwhile: then it is open."""
    starved = case.open_if_starved(begin, end, complaint)
    return Answer(open=starved) if starved else Answer(complaint)


def was_in_flight(workload: Workload, moment: float, least_s: float) -> bool:
    """Tell whether an engine had had a workload for at least `least_s` at a moment, and had not finished it."""
    taken = workload.at("accepted", "running")
    return workload.in_flight_at(moment) and taken is not None and taken <= moment - least_s


def in_flight(case: Case, kind: str) -> list[Workload]:
    """Return the workloads of a kind, of the engine of the promise, that were in flight when the fault was injected.

    One that was answered while that went on is not among them: its zone may still have been there.
    """
    least_s = case.contract.workloads.in_flight_min_s
    return [
        workload
        for workload in case.run.workloads
        if (workload.engine, workload.kind) == (case.engine, kind)
        and was_in_flight(workload, case.fault.injecting, least_s)
        and not (workload.last.state == "succeeded" and workload.last.mono <= case.fault.in_effect)
    ]


def must_have_failed(case: Case, workload: Workload, within_s: float) -> Answer:
    """Hold that a workload failed within so many seconds of the fault, and did nothing else."""
    name, last, after_s = named(workload), workload.last, workload.last.mono - case.fault.injecting
    if last.state == "succeeded":
        return Answer(f"{name} was in flight and succeeded all the same, {seconds(after_s)} after the fault")
    if last.state == "failed":
        late = f"{name} failed only {seconds(after_s)} after the fault"
        return Answer(late if after_s > within_s else None)
    if after_s > within_s:
        return Answer(f"{name} was still {last.state} {seconds(after_s)} after the fault")
    return Answer(
        open=f"how {name} ended is not known: it was {last.state} {seconds(after_s)} after the fault, at last"
    )


def must_have_succeeded(workload: Workload) -> Answer:
    """Hold that a workload succeeded in the end; one that had no time for it before the load ended leaves it open."""
    last = workload.last
    if last.state == "failed":
        return Answer(f"{named(workload)} failed{error_text(last)}")
    return Answer() if last.state == "succeeded" else Answer(open=f"the load ended before {named(workload)} did")


def named(workload: Workload) -> str:
    """Return what it is and its name: sentences begin with it, and a name keeps its own first letter."""
    return f"{workload.kind.replace('_', ' ')} {workload.name}"


def error_text(step: WorkloadStep) -> str:
    """Return the engine's words for a failure, with its number, as the end of a clause; nothing where it has none."""
    parts = [shorten(step.error or "", _ERROR_LENGTH_MAX, placeholder=" …"), str(step.error_code or "")]
    told = " ".join(part for part in parts if part)
    return f" ({told})" if told else ""


def ending_text(case: Case, workload: Workload) -> str:
    """Return how and when a workload ended as a person reads it."""
    last = workload.last
    return f"{workload.name} {last.state} after {seconds(last.mono - case.fault.injecting)}{error_text(last)}"


def workload_evidence(case: Case, workload: Workload) -> dict[str, Any]:
    """Return what is known of a workload, with times relative to the fault."""
    taken, ended = workload.at("accepted", "running"), workload.at(*ENDED)
    last = workload.last
    return {
        "workload": workload.name,
        "engine_id": workload.last.engine_id,
        "accepted_at_s": None if taken is None else round(taken - case.fault.injecting, 3),
        "ended_at_s": None if ended is None else round(ended - case.fault.injecting, 3),
        "state": last.state,
        "error": last.error,
        "error_code": last.error_code,
        "result": last.result,
        "failed_tasks": workload.detail("failed_tasks"),
    }
