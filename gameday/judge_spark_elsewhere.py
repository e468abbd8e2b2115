"""Checker of Spark jobs that stood wholly outside of the lost zone: they see no impact."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from gameday import measure
from gameday.errors import Inconclusive
from gameday.judge_case import Case, Finding, seconds, sentence
from gameday.judge_pods import is_going
from gameday.judge_spark import Job, answered, as_undisturbed, evidence, jobs_in_flight, undisturbed
from gameday.judge_workloads import Answer, named
from gameday.records import ENDED


@dataclass(frozen=True, slots=True)
class _Progress:
    """Tasks a second of a job, None where they are not known; `open` says why."""

    baseline_per_s: float | None
    fault_per_s: float | None
    open: str | None = None


def workloads_elsewhere(case: Case) -> Finding:
    """Hold the promise that jobs with no pod in a lost zone see no impact.

    No task of theirs failed, they lost no pod in the fault, succeeded with the result of an undisturbed run of the same
    work, and kept the share of their own rate before the fault that the contract asks for. At least one must have been
    in flight for the whole of the fault; of one that ended within it all but the rate is held against it too.
    """
    jobs = [job for job in jobs_in_flight(case, case.fault_end) if job.driver and not job.lost]
    if not jobs:
        raise Inconclusive("no job in flight stood wholly outside of the lost zones")
    whole = [job for job in jobs if _outlasted(job, case.fault_end)]
    rates = {job.name: _progress(case, job) for job in whole}
    answers = [
        answer
        for job in jobs
        for answer in (_no_failed_task(case, job), _no_lost_pod(case, job), *as_undisturbed(case, job.workload))
    ]
    answers += [_kept_its_rate(case, job, rates[job.name]) for job in whole]
    if not whole:
        answers.append(Answer(open=f"{named(jobs[0].workload)} was in flight for a part of the fault alone"))
    complaints = answered(answers)
    ratio = case.contract.workloads.progress_ratio_min
    return Finding(
        held=not complaints,
        figure=f"jobs elsewhere: {len(jobs)}, in flight for the whole of the fault: {len(whole)}; "
        + ", ".join(_job_text(job, rates.get(job.name)) for job in jobs),
        bound=f"no failed task, no lost pod, result of an undisturbed run, at least {ratio:g} x its own rate before",
        reason=sentence("; ".join(complaints) or "jobs wholly in unaffected zones saw no impact"),
        evidence={
            "tasks_per_s": {
                name: {"baseline": rate.baseline_per_s, "fault": rate.fault_per_s} for name, rate in rates.items()
            },
            "undisturbed": {job.name: [one.name for one in undisturbed(case, job.workload)] for job in jobs},
            **evidence(case, jobs),
        },
    )


def _outlasted(job: Job, moment: float) -> bool:
    ended = job.workload.at(*ENDED)
    return job.workload.last.mono > moment if ended is None else ended > moment


def _no_failed_task(case: Case, job: Job) -> Answer:
    """Hold that no task failed since the fault; what failed before it is no impact of that."""
    failed = job.workload.detail("failed_tasks")
    if failed is None:
        return Answer(open=f"how many tasks of {named(job.workload)} failed was not written down")
    before = [
        int(step.details["failed_tasks"])
        for step in job.workload.steps
        if step.mono < case.fault.injecting and step.details.get("failed_tasks") is not None
    ]
    if failed and not before:
        return Answer(open=f"whether tasks of {named(job.workload)} failed before the fault or since is not known")
    since = failed - before[-1] if before else 0
    return Answer(f"{since} of the tasks of {named(job.workload)} failed" if since else None)


def _no_lost_pod(case: Case, job: Job) -> Answer:
    """Hold that no pod of a job went in the fault while the job went on: with the end of its work its pods go too."""
    uids = {pod["uid"] for pod in job.pods}
    gone = next(
        (
            event
            for event in case.run.of_kind("pod")
            if event["uid"] in uids
            and case.fault.injecting < event.mono <= case.fault_end
            and is_going(event)
            and _worked_on(job, event.mono)
        ),
        None,
    )
    return Answer(f"{named(job.workload)} lost {gone['name']} in {gone.get('zone')}" if gone else None)


def _worked_on(job: Job, moment: float) -> bool:
    """Tell whether more tasks were completed from one look to a later one, both after a moment."""
    done = [count for mono, count in _looks(job) if mono > moment]
    return bool(done) and max(done) > done[0]


def _looks(job: Job) -> list[tuple[float, int]]:
    return [
        (step.mono, int(step.details["completed_tasks"]))
        for step in job.workload.steps
        if step.state == "running" and step.details.get("completed_tasks") is not None
    ]


def _progress(case: Case, job: Job) -> _Progress:
    """Return how fast a job was that outlasted the fault, before it and in it."""
    looks, window = _looks(job), (case.fault.injecting, case.fault_end)
    before, within = measure.progress(looks, *case.run.phase("baseline")), measure.progress(looks, *window)
    least = case.contract.workloads.progress_tasks_min
    if before is None or before[0] < least:
        done = before[0] if before else 0
        why = f"{named(job.workload)} completed {done} tasks in the baseline, and {least} are needed to know its rate"
        return _Progress(None, None, why)
    edges = [window[0], *(mono for mono, _ in looks if window[0] <= mono <= window[1]), window[1]]
    unseen_s = max(after - earlier for earlier, after in pairwise(edges))
    if within is None or unseen_s > case.contract.evidence.silence_s_max:
        return _Progress(
            before[0] / before[1],
            None,
            f"the progress of {named(job.workload)} was not looked at for {seconds(unseen_s)}",
        )
    return _Progress(round(before[0] / before[1], 3), round(within[0] / within[1], 3))


def _kept_its_rate(case: Case, job: Job, rate: _Progress) -> Answer:
    if rate.baseline_per_s is None or rate.fault_per_s is None:
        return Answer(open=rate.open)
    if rate.fault_per_s >= case.contract.workloads.progress_ratio_min * rate.baseline_per_s:
        return Answer()
    was, now = (f"{per_s:.2f} tasks a second" for per_s in (rate.baseline_per_s, rate.fault_per_s))
    return Answer(f"{named(job.workload)} completed {now}, and {was} before the fault")


def _job_text(job: Job, rate: _Progress | None) -> str:
    text = f"{job.name} {job.workload.detail('failed_tasks')} failed tasks"
    if rate is None or rate.fault_per_s is None:
        return text
    return f"{text}, {rate.fault_per_s:.2f} tasks/s (baseline {rate.baseline_per_s:.2f})"
