"""Spark jobs that stood outside of the lost zone, judged: no impact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import BEGAN_MONO, HEALING_S, INJECTING_S, SyntheticRun

pytestmark = pytest.mark.needs("spark")


@pytest.fixture
def elsewhere(tmp_path: Path) -> SyntheticRun:
    """A run in which one of three jobs has all its pods outside of the lost zone and sees nothing of it."""
    run = SyntheticRun(tmp_path / "run", "S5.spark.elsewhere", engines=("mds", "spark"))
    run.spark()
    return run


def test_a_job_elsewhere_that_goes_on_holds(elsewhere: SyntheticRun) -> None:
    """Failed tasks and progress are the figure; jobs that lost pods are not held against it."""
    verdict = elsewhere.judged()
    assert verdict.verdict == "held", verdict.reason
    assert verdict.figure == (
        "jobs elsewhere: 1, in flight for the whole of the fault: 1; "
        "job-elsewhere 0 failed tasks, 2.00 tasks/s (baseline 2.00)"
    )
    assert verdict.evidence["undisturbed"] == {"job-elsewhere": ["reference"]}
    assert verdict.evidence["tasks_per_s"] == {"job-elsewhere": {"baseline": 2.0, "fault": 2.0}}


@pytest.mark.parametrize(("per_s", "word"), [(1.0, "held"), (0.95, "broken")])
def test_a_job_must_keep_half_of_its_rate(elsewhere: SyntheticRun, per_s: float, word: str) -> None:
    """Of the rate that it had itself before the fault."""
    elsewhere.job("job-elsewhere", 5, 105, rates=(2.0, per_s))
    verdict = elsewhere.judged()
    assert verdict.verdict == word
    if word == "broken":
        assert verdict.reason.startswith("Job job-elsewhere completed 0.9")
        assert verdict.reason.endswith("and 2.00 tasks a second before the fault.")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"state": "failed", "error": "it broke"}, "broken"),
        ({"result": "sum 41"}, "broken"),
        ({"details": {"failed_tasks": 1}}, "broken"),
        ({"state": "unfinished"}, "inconclusive"),
        ({"state": "running"}, "inconclusive"),
        ({"result": None}, "inconclusive"),
    ],
)
def test_a_job_elsewhere_must_succeed_without_a_failed_task(
    elsewhere: SyntheticRun, fields: dict[str, Any], word: str
) -> None:
    """With the result of an undisturbed run; one that the end of the load cut off leaves it open."""
    elsewhere.change("job-elsewhere", **fields)
    verdict = elsewhere.judged()
    assert verdict.verdict == word
    assert "ob job-elsewhere" in verdict.reason


@pytest.mark.parametrize(("before", "word"), [(1, "held"), (0, "broken"), (None, "inconclusive")])
def test_a_task_that_failed_before_the_fault_is_no_impact_of_it(
    elsewhere: SyntheticRun, before: int | None, word: str
) -> None:
    """One failed in all; without a look before the fault nobody knows when."""
    for number, step in enumerate(elsewhere.workloads):
        if step.workload == "job-elsewhere" and "failed_tasks" in step.details:
            failed = before if step.mono < BEGAN_MONO + INJECTING_S else 1
            elsewhere.workloads[number] = replace(step, details={**step.details, "failed_tasks": failed})
    assert elsewhere.judged().verdict == word


@pytest.mark.parametrize(
    ("at_s", "fields", "word"),
    [
        (60, {"op": "DELETED"}, "broken"),
        (60, {"deleting": True}, "broken"),
        (60, {"phase": "Failed", "ready": False}, "broken"),
        (60, {"ready": False}, "held"),
        (INJECTING_S - 1, {"deleting": True}, "held"),
        (HEALING_S + 1, {"op": "DELETED"}, "held"),
    ],
)
def test_a_pod_of_a_job_elsewhere_that_goes_in_the_fault_breaks_it(
    elsewhere: SyntheticRun, at_s: float, fields: dict[str, Any], word: str
) -> None:
    """Gone, or going; before and after the fault it is no matter of it."""
    elsewhere.job_pod(at_s, "job-elsewhere", "2", "zone-c", **fields)
    verdict = elsewhere.judged()
    assert verdict.verdict == word
    assert word == "held" or verdict.reason == "Job job-elsewhere lost job-elsewhere-2 in zone-c."


def test_pods_that_go_with_the_end_of_the_work_are_not_lost(elsewhere: SyntheticRun) -> None:
    """Spark removes executors when all tasks are done, a moment before the client learns of the end."""
    elsewhere.job("job-elsewhere", 5, HEALING_S + 0.5)
    elsewhere.job_pod(HEALING_S - 0.4, "job-elsewhere", "2", "zone-c", op="DELETED")
    assert elsewhere.judged().verdict == "held"


@pytest.mark.parametrize(
    ("ended_s", "word"), [(HEALING_S + 0.1, "held"), (HEALING_S, "inconclusive"), (60, "inconclusive")]
)
def test_a_job_must_be_in_flight_for_the_whole_of_the_fault(elsewhere: SyntheticRun, ended_s: float, word: str) -> None:
    """One that ended within it covers a part."""
    elsewhere.job("job-elsewhere", 5, ended_s)
    verdict = elsewhere.judged()
    assert verdict.verdict == word
    assert word == "held" or "in flight for a part of the fault alone" in verdict.reason


@pytest.mark.parametrize(
    ("fields", "word"), [({}, "held"), ({"failed_tasks": 1}, "broken"), ({"result": "7"}, "broken")]
)
def test_a_job_that_covers_a_part_is_held_to_the_rest(
    elsewhere: SyntheticRun, fields: dict[str, Any], word: str
) -> None:
    """Beside one that covers the whole."""
    elsewhere.job("job-short", 5, 60, **fields)
    elsewhere.job_pod(6, "job-short", "driver", "zone-b")
    assert elsewhere.judged().verdict == word


def looks(run: SyntheticRun, keep: Callable[[float], bool]) -> None:
    """Keep the looks at the progress of the job at these seconds alone."""
    run.workloads = [
        one
        for one in run.workloads
        if one.workload != "job-elsewhere" or one.state != "running" or keep(one.mono - BEGAN_MONO)
    ]


def no_tasks(run: SyntheticRun, *names: str) -> None:
    """Let the engine have said nothing of these numbers."""
    run.workloads = [
        replace(one, details={name: value for name, value in one.details.items() if name not in names})
        for one in run.workloads
    ]


def no_undisturbed_run(run: SyntheticRun) -> None:
    """Let the job be the only one of its work that lost nothing."""
    run.workloads = [one for one in run.workloads if one.kind != "reference"]


SPOILT: dict[str, tuple[Callable[[SyntheticRun], object], str]] = {
    "none elsewhere": (
        lambda run: run.job_pod(9, "job-elsewhere", "9", "zone-a", ready=False),
        "no job in flight stood wholly outside",
    ),
    "no driver": (lambda run: run.without("pod", role="driver"), "no job in flight stood wholly outside"),
    "no undisturbed run": (no_undisturbed_run, "there was no undisturbed run of the work of job job-elsewhere"),
    "no look before": (lambda run: looks(run, lambda at: at > INJECTING_S), "completed 0 tasks in the baseline, and 5"),
    "four tasks before": (
        lambda run: run.job("job-elsewhere", 5, 105, rates=(0.18, 2.0)),
        "completed 4 tasks in the baseline, and 5",
    ),
    "no look in the fault": (lambda run: looks(run, lambda at: at < INJECTING_S), "was not looked at for 45.0 s"),
    "no look at its end": (lambda run: looks(run, lambda at: not 69 < at < HEALING_S), "was not looked at for 6.0 s"),
    "no tasks": (lambda run: no_tasks(run, "completed_tasks"), "completed 0 tasks in the baseline"),
    "no failed tasks": (lambda run: no_tasks(run, "failed_tasks"), "how many tasks of job job-elsewhere failed"),
    "no parameters": (lambda run: no_tasks(run, "parameters"), "which work job job-elsewhere was"),
    "watch lost": (lambda run: run.add(40, "watch.lost", what="pods", error="gone"), "the watch of pods was lost"),
    "not under load": (lambda run: run.without("load.begin", engine="spark"), "spark was not under load"),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_what_is_missing_leaves_it_open(elsewhere: SyntheticRun, spoilt: str) -> None:
    """With a sentence that says what, and why."""
    spoil, reason = SPOILT[spoilt]
    spoil(elsewhere)
    verdict = elsewhere.judged()
    assert verdict.verdict == "inconclusive"
    assert reason in verdict.reason[:1].lower() + verdict.reason[1:]


def test_five_tasks_in_the_baseline_are_enough(elsewhere: SyntheticRun) -> None:
    """However slow the job is."""
    elsewhere.job("job-elsewhere", 5, 105, rates=(0.23, 0.23))
    assert elsewhere.judged().verdict == "held"


def test_with_two_zones_lost_jobs_in_the_third_are_elsewhere(tmp_path: Path) -> None:
    """The promise is on all variants of the outage."""
    run = SyntheticRun(tmp_path / "run", "S5.spark.elsewhere", ("zone-a", "zone-c"), ("mds", "spark"))
    run.spark()
    assert run.judged().verdict == "inconclusive"
    run.folder = tmp_path / "again"
    run.without("pod", name="job-elsewhere-2")
    assert run.judged().verdict == "held"
