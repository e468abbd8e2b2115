"""Checkers of Spark jobs that a lost zone hit: a lost driver fails its job, lost executors are replaced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gameday.errors import Inconclusive
from gameday.judge_case import Case, Finding, seconds, sentence
from gameday.judge_pods import OVER, is_going, serves
from gameday.judge_workloads import (
    Answer,
    ending_text,
    in_flight,
    must_have_failed,
    must_have_succeeded,
    named,
    workload_evidence,
)
from gameday.judge_writes import writes_evidence
from gameday.records import ENDED, Workload
from gameday.timeline import Event


@dataclass(frozen=True, slots=True)
class Job:
    """A job in flight at the fault: its pods of that moment, and those of them that stood in a lost zone."""

    workload: Workload
    pods: tuple[Event, ...]
    lost: tuple[Event, ...]

    @property
    def name(self) -> str:
        """The client's name for it."""
        return self.workload.name

    @property
    def driver(self) -> Event | None:
        """Its driver, None where none was at work: such a job had not begun, and no promise speaks of it."""
        return next((pod for pod in self.pods if pod.get("role") == "driver" and serves(pod)), None)

    @property
    def lost_driver(self) -> Event | None:
        """Its driver, if that was at work in a lost zone."""
        return self.driver if self.driver in self.lost else None

    @property
    def lost_executors(self) -> list[Event]:
        """Its executors that were at work in a lost zone."""
        return [pod for pod in self.lost if pod.get("role") == "executor" and serves(pod)]


@dataclass(frozen=True, slots=True)
class Replacement:
    """An executor that was lost, and the one that came for it; None, three times, where none came."""

    job: str
    lost: str
    from_zone: str
    by: str | None
    to_zone: str | None
    after_s: float | None

    def __str__(self) -> str:
        if self.by is None:
            return f"executor {self.lost} ({self.from_zone}) of {self.job} not replaced"
        return (
            f"executor {self.lost} ({self.from_zone}) of {self.job} replaced by {self.by} ({self.to_zone}) "
            f"after {seconds(self.after_s)}"
        )


def driver_lost(case: Case) -> Finding:
    """Hold the promise that a job fails when its driver is lost with the zone, by the recovery deadline.

    Where its work was done once more after the fault, that must have succeeded: what fails for good lost more than a
    driver.
    """
    deadline_s = case.contract.recovery.deadline_s
    jobs = [job for job in jobs_in_flight(case, case.fault.injecting) if job.lost_driver]
    if not jobs:
        raise Inconclusive("no job in flight had its driver in a lost zone, so that none had to fail")
    again = {job.name: _run_again(case, job.workload) for job in jobs}
    answers = [must_have_failed(case, job.workload, deadline_s) for job in jobs]
    answers += [_succeeded_again(case, name, run) for name, runs in again.items() for run in runs]
    complaints = answered(answers)
    failed = [job for job in jobs if job.workload.last.state == "failed"]
    return Finding(
        held=not complaints,
        figure=f"{len(failed)} of {len(jobs)} jobs that lost their driver failed: "
        + ", ".join(ending_text(case, job.workload) for job in jobs)
        + "".join(f"; run again, {ending_text(case, run)}" for runs in again.values() for run in runs),
        bound=f"each fails within {seconds(deadline_s)}; run again, it succeeds",
        reason=sentence("; ".join(complaints) or "every job whose driver was lost with the zone failed"),
        evidence={
            "run_again": {name: [run.name for run in runs] for name, runs in again.items()},
            **evidence(case, jobs),
        },
    )


def _succeeded_again(case: Case, name: str, run: Workload) -> Answer:
    if run.last.state == "succeeded":
        return Answer()
    problem = f"the work of {name} did not succeed when it was run again: {ending_text(case, run)}"
    # what was not awaited to its end says nothing of how that would have been
    return Answer(problem) if run.last.state == "failed" else Answer(open=problem)


def _run_again(case: Case, workload: Workload) -> list[Workload]:
    """Return the runs of a job's work that were submitted after the fault."""
    work = workload.detail("parameters")
    return [
        one
        for one in case.run.workloads
        if one.kind == "reference"
        and one.detail("parameters") == work
        and (one.at("submitted") or 0.0) > case.fault.injecting
    ]


def executors_replaced(case: Case) -> Finding:
    """Hold the promise that executors lost with a zone come back in healthy zones, and that their jobs complete.

    For each lost executor of a job whose driver was not lost, one with an id that was not there before must have become
    ready in another zone by the recovery deadline after the fault, while the zone was lost. Where the zone returned
    before that, or the job ended before another could have come, the situation ended too early to tell. The job must
    succeed with the result of an undisturbed run of the same work.
    """
    every = jobs_in_flight(case, case.fault_end)
    jobs = [job for job in every if job.driver and not job.lost_driver and job.lost_executors]
    if not jobs:
        raise Inconclusive("no job in flight had executors in a lost zone and its driver elsewhere")
    replaced = {job.name: _replacements(case, job) for job in jobs}
    answers = [
        answer
        for job in jobs
        for answer in (_all_replaced(case, job, replaced[job.name]), *as_undisturbed(case, job.workload))
    ]
    complaints = answered(answers)
    told = [replacement for own in replaced.values() for replacement in own]
    return Finding(
        held=not complaints,
        figure="; ".join([*map(str, told), *(ending_text(case, job.workload) for job in jobs)]),
        bound=f"each replaced in a healthy zone within {seconds(case.contract.recovery.deadline_s)}, and the job "
        "succeeds with the result of an undisturbed run",
        reason=sentence(
            "; ".join(complaints) or "all lost executors were replaced in healthy zones, and their jobs completed"
        ),
        evidence={
            "replacements": [asdict(replacement) for replacement in told],
            "undisturbed": {job.name: [one.name for one in undisturbed(case, job.workload)] for job in jobs},
            **evidence(case, jobs),
        },
    )


def jobs_in_flight(case: Case, watched_until: float) -> list[Job]:
    """Return the jobs in flight at the fault; raises Inconclusive where there are none.

    The same where the load was not as declared, or where what was seen of pods up to a moment may have holes.
    """
    fault = case.fault
    case.check_load(fault.injecting, case.fault_end)
    case.run.check_watched(watched_until)
    there = [pod for pod in case.run.pods_at(fault.injecting) if pod.get("phase") not in OVER]
    jobs = []
    for workload in in_flight(case, "job"):
        pods = tuple(pod for pod in there if pod.get("workload") == workload.name)
        jobs.append(Job(workload, pods, tuple(pod for pod in pods if pod.get("node") in fault.nodes)))
    if not jobs:
        raise Inconclusive("no job was in flight when the zone was lost")
    return jobs


def answered(answers: Sequence[Answer]) -> list[str]:
    """Return what breaks the promise; raises Inconclusive where nothing does, and something cannot be told."""
    complaints = [answer.complaint for answer in answers if answer.complaint]
    unknown = [answer.open for answer in answers if answer.open]
    if unknown and not complaints:
        raise Inconclusive(unknown[0])
    return complaints


def as_undisturbed(case: Case, workload: Workload) -> list[Answer]:
    """Hold that a job succeeded, with the result that undisturbed runs of the same work had."""
    succeeded, name, last = must_have_succeeded(workload), named(workload), workload.last
    if last.state != "succeeded":
        return [succeeded]
    if workload.detail("parameters") is None or last.result is None:
        return [Answer(open=f"which work {name} was, or what it returned, was not written down")]
    runs = undisturbed(case, workload)
    if not runs:
        return [Answer(open=f"there was no undisturbed run of the work of {name} to compare its result with")]
    odd = [run for run in runs if run.last.result != runs[0].last.result]
    if odd:
        return [Answer(open=f"undisturbed runs of the same work differ: {named(runs[0])} and {named(odd[0])}")]
    if last.result != runs[0].last.result:
        return [Answer(f"the result of {name} is not that of {named(runs[0])}, an undisturbed run of the same work")]
    return [succeeded]


def undisturbed(case: Case, workload: Workload) -> list[Workload]:
    """Return the undisturbed runs of the same work: references, or without any, other jobs that lost nothing."""
    work = workload.detail("parameters")
    same = [
        one
        for one in case.run.workloads
        if one.engine == workload.engine
        and one.name != workload.name
        and one.detail("parameters") == work
        and one.last.state == "succeeded"
        and one.last.result is not None
    ]
    references = [one for one in same if one.kind == "reference"]
    there = case.run.pods_at(case.fault.injecting)
    lost = [pod for pod in there if pod.get("node") in case.fault.nodes and pod.get("phase") not in OVER]
    hit = {pod.get("workload") for pod in lost}
    return references or [one for one in same if one.name not in hit and one.detail("failed_tasks") == 0]


def evidence(case: Case, jobs: Sequence[Job]) -> dict[str, Any]:
    """Return what is known of jobs and their pods at the fault, and what every verdict carries."""
    return {
        "jobs": [
            {
                **workload_evidence(case, job.workload),
                "pods": [
                    {name: pod.get(name) for name in ("name", "role", "executor", "zone", "ready")} for pod in job.pods
                ],
            }
            for job in jobs
        ],
        "rto": case.outage_evidence(),
        "rpo": writes_evidence(case),
    }


def _replacements(case: Case, job: Job) -> list[Replacement]:
    """Return for each lost executor the one that came for it, in the order in which they came."""
    fault = case.fault
    end = min(fault.injecting + case.contract.recovery.deadline_s, case.fault_end)
    own = [
        event
        for event in case.run.of_kind("pod")
        if event.get("workload") == job.name and event.get("role") == "executor" and event.mono <= end
    ]
    known = {event.get("executor") for event in own if event.mono <= fault.injecting}
    came: dict[str, Event] = {}
    for event in own:
        if event.get("executor") not in known and serves(event) and event.get("zone") not in fault.zones:
            came.setdefault(str(event.get("executor")), event)
    new: list[Event | None] = [*came.values(), *[None] * len(job.lost_executors)]
    return [
        Replacement(job.name, str(lost.get("executor")), str(lost.get("zone")), None, None, None)
        if by is None
        else Replacement(
            job.name, str(lost.get("executor")), str(lost.get("zone")), str(by.get("executor")), by.get("zone"),
            round(by.mono - fault.injecting, 3),
        )
        for lost, by in zip(job.lost_executors, new, strict=False)
    ]  # fmt: skip


def _all_replaced(case: Case, job: Job, replacements: Sequence[Replacement]) -> Answer:
    """Hold that each lost executor of a job was replaced in time."""
    missing = [one for one in replacements if one.by is None]
    began, deadline_s = case.fault.injecting, case.contract.recovery.deadline_s
    if not missing:
        return Answer()
    if case.fault_end < began + deadline_s:
        after = seconds(case.fault_end - began)
        return Answer(open=f"the zone returned {after} after the fault, with {missing[0]}")
    ended = job.workload.at(*ENDED)
    if ended is not None and ended < min(began + deadline_s, _time_enough(case, job)):
        return Answer(open=f"{named(job.workload)} ended {seconds(ended - began)} after the fault, with {missing[0]}")
    lost = ", ".join(one.lost for one in missing)
    complaint = f"{named(job.workload)} got no new executor for {lost} within {seconds(deadline_s)}"
    full = case.full_before()
    return Answer(open=f"{complaint}; but {full}") if full else Answer(complaint)


def _time_enough(case: Case, job: Job) -> float:
    """Return when a job had gone on for long enough after Kubernetes let the last of its lost executors go."""
    uids = {pod["uid"] for pod in job.lost_executors}
    let_go: dict[str, float] = {}
    for event in case.run.of_kind("pod"):
        if event["uid"] in uids and event.mono > case.fault.injecting and is_going(event):
            let_go.setdefault(event["uid"], event.mono)
    return max(let_go.values()) + case.contract.workloads.replacement_s if len(let_go) == len(uids) else math.inf
