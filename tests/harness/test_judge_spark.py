"""Spark jobs that a lost zone hit, judged: a lost driver fails its job, lost executors are replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import BEGAN_MONO, HEALING_S, INJECTING_S, SyntheticRun

from gameday.records import WorkloadState

pytestmark = pytest.mark.needs("spark")

DEADLINE_S = 120
ENGINES = ("mds", "spark")


@pytest.fixture
def driver(tmp_path: Path) -> SyntheticRun:
    """A run in which a job loses its driver and fails after 25 s."""
    run = SyntheticRun(tmp_path / "run", "S5.spark.driver", engines=ENGINES)
    run.spark()
    return run


@pytest.fixture
def executors(driver: SyntheticRun) -> SyntheticRun:
    """The same run, asked for the executor of another job, which is replaced after 28 s."""
    driver.promise = "S5.spark.executors"
    return driver


def lasting(run: SyntheticRun) -> None:
    """Let the zone be lost for longer than the deadline, and the job that lost an executor run on beyond that."""
    run.prolong(160)
    run.job("job-executor", 5, 200, failed_tasks=2)


def test_a_job_that_lost_its_driver_and_failed_holds(driver: SyntheticRun) -> None:
    """Its name, when it failed and why are the figure; jobs with their driver elsewhere are not held against it."""
    verdict = driver.judged()
    assert verdict.verdict == "held", verdict.reason
    assert verdict.figure == (
        "1 of 1 jobs that lost their driver failed: job-driver failed after 25.0 s (the driver is gone)"
    )
    assert [job["workload"] for job in verdict.evidence["jobs"]] == ["job-driver"]


@pytest.mark.parametrize(("after_s", "word"), [(DEADLINE_S, "held"), (DEADLINE_S + 0.1, "broken")])
def test_a_job_without_its_driver_must_fail_by_the_deadline(driver: SyntheticRun, after_s: float, word: str) -> None:
    """A tenth of a second too late is too late."""
    driver.prolong(160)
    driver.change("job-driver", mono=BEGAN_MONO + INJECTING_S + after_s)
    assert driver.judged().verdict == word


@pytest.mark.parametrize(
    ("state", "after_s", "word"),
    [
        ("succeeded", 25, "broken"),
        ("running", DEADLINE_S + 0.1, "broken"),
        ("unfinished", DEADLINE_S + 0.1, "broken"),
        ("running", DEADLINE_S - 0.1, "inconclusive"),
        ("unfinished", DEADLINE_S - 0.1, "inconclusive"),
    ],
)
def test_a_job_that_went_on_without_its_driver_breaks_it(
    driver: SyntheticRun, state: str, after_s: float, word: str
) -> None:
    """Seen last before the deadline, nobody knows."""
    driver.prolong(160)
    driver.change("job-driver", state=state, mono=BEGAN_MONO + INJECTING_S + after_s)
    verdict = driver.judged()
    assert verdict.verdict == word
    assert "ob job-driver" in verdict.reason


def test_a_job_that_succeeds_when_it_is_run_again_holds(driver: SyntheticRun) -> None:
    """Its second run is part of the figure; one of before the fault is none."""
    driver.job("reference-1", 2, INJECTING_S - 1, kind="reference")
    driver.job("reference-2", INJECTING_S + 40, INJECTING_S + 60, kind="reference")
    verdict = driver.judged()
    assert verdict.verdict == "held", verdict.reason
    assert verdict.figure.endswith("(the driver is gone); run again, reference-2 succeeded after 60.0 s")
    assert verdict.evidence["run_again"] == {"job-driver": ["reference-2"]}


@pytest.mark.parametrize(("state", "word"), [("failed", "broken"), ("unfinished", "inconclusive")])
def test_a_job_that_does_not_succeed_when_it_is_run_again(
    driver: SyntheticRun, state: WorkloadState, word: str
) -> None:
    """Where it fails, more was lost than a driver; that it was not awaited says nothing of how it would have ended."""
    begin_s = INJECTING_S + 40
    driver.job("reference-2", begin_s, begin_s + 20, kind="reference", state=state, result=None)
    verdict = driver.judged()
    assert verdict.verdict == word
    assert "job-driver did not succeed when it was run again" in verdict.reason


def test_a_reference_is_no_job_of_the_promise(driver: SyntheticRun) -> None:
    """One that was in flight in the lost zone is not held to fail."""
    driver.job("reference-2", 5, 60, kind="reference")
    driver.job_pod(6, "reference-2", "driver", "zone-a")
    assert driver.judged().verdict == "held"


def test_a_lost_executor_that_is_replaced_holds(executors: SyntheticRun) -> None:
    """Who came for whom, from which zone to which, and when, is the figure."""
    verdict = executors.judged()
    assert verdict.verdict == "held", verdict.reason
    assert verdict.figure == (
        "executor 2 (zone-a) of job-executor replaced by 3 (zone-c) after 28.0 s; job-executor succeeded after 70.0 s"
    )
    assert verdict.evidence["replacements"] == [
        {"job": "job-executor", "lost": "2", "from_zone": "zone-a", "by": "3", "to_zone": "zone-c", "after_s": 28.0}
    ]
    assert verdict.evidence["undisturbed"] == {"job-executor": ["reference"]}


@pytest.mark.parametrize(("after_s", "word"), [(DEADLINE_S, "held"), (DEADLINE_S + 0.1, "broken")])
def test_an_executor_must_be_replaced_by_the_deadline(executors: SyntheticRun, after_s: float, word: str) -> None:
    """While the zone is lost and the job at work."""
    executors.without("pod", executor="3")
    executors.job_pod(INJECTING_S + after_s, "job-executor", "3", "zone-c")
    lasting(executors)
    assert executors.judged().verdict == word


def no_replacement(run: SyntheticRun) -> None:
    """Let no executor come for the lost one."""
    run.without("pod", executor="3")


def test_executors_that_nobody_replaces_break_it(executors: SyntheticRun) -> None:
    """Once the deadline has passed with the zone lost and the job at work, whatever becomes of the job."""
    no_replacement(executors)
    lasting(executors)
    verdict = executors.judged()
    assert verdict.verdict == "broken"
    assert verdict.reason == "Job job-executor got no new executor for 2 within 120.0 s."
    assert "executor 2 (zone-a) of job-executor not replaced" in verdict.figure


def test_executors_that_nobody_replaced_on_a_full_machine_leave_it_open(executors: SyntheticRun) -> None:
    """They may have waited for a core."""
    no_replacement(executors)
    lasting(executors)
    executors.add(10, "machine", seconds=9.0, region=1.9, harness=0.1, others=0.0, stolen=0.0, idle=0.0)
    verdict = executors.judged()
    assert verdict.verdict == "inconclusive"
    assert "got no new executor for 2 within 120.0 s; but the machine was full" in verdict.reason


def test_a_job_that_ended_without_an_executor_that_had_time_to_come_breaks_it(executors: SyntheticRun) -> None:
    """It went on for 30 s after its lost executor was let go, and the zone was lost until the deadline."""
    no_replacement(executors)
    executors.prolong(160)
    executors.job_pod(50, "job-executor", "3", None, ready=False, unschedulable="bound to the lost zone")
    executors.job_pod(70, "job-executor", "2", "zone-a", deleting=True)
    verdict = executors.judged()
    assert verdict.verdict == "broken"
    assert verdict.reason == "Job job-executor got no new executor for 2 within 120.0 s."


@pytest.mark.parametrize(
    ("part", "zone", "fields"),
    [
        ("2", "zone-c", {}),
        ("3", "zone-a", {}),
        ("3", "zone-c", {"ready": False}),
        ("3", "zone-c", {"deleting": True}),
        ("3", "zone-c", {"workload": "job-elsewhere"}),
        ("3", "zone-c", {"role": "driver"}),
    ],
)
def test_only_a_new_ready_executor_of_the_job_in_a_healthy_zone_is_a_replacement(
    executors: SyntheticRun, part: str, zone: str, fields: dict[str, Any]
) -> None:
    """Not one with an old id, in the lost zone, not ready, of another job, or a driver."""
    no_replacement(executors)
    executors.job_pod(58, "job-executor", part, zone, uid="new", **fields)
    lasting(executors)
    assert executors.judged().verdict == "broken"


def test_an_executor_that_was_starting_before_the_fault_is_no_replacement(executors: SyntheticRun) -> None:
    """Its id was there already."""
    executors.job_pod(29, "job-executor", "3", "zone-c", ready=False)
    lasting(executors)
    assert executors.judged().verdict == "broken"


@pytest.mark.parametrize(("came", "word"), [(("3", "4"), "held"), (("3", "3"), "broken")])
def test_each_lost_executor_needs_one_of_its_own(executors: SyntheticRun, came: tuple[str, str], word: str) -> None:
    """One that came twice is one."""
    executors.job_pod(9, "job-executor", "7", "zone-a")
    executors.without("pod", executor="3")
    for at_s, executor in zip((58, 60), came, strict=True):
        executors.job_pod(at_s, "job-executor", executor, "zone-c")
    lasting(executors)
    verdict = executors.judged()
    assert verdict.verdict == word
    assert len(verdict.evidence["replacements"]) == 2


def test_a_job_that_lost_its_driver_too_is_no_matter_of_its_executors(executors: SyntheticRun) -> None:
    """It fails, as is promised elsewhere."""
    executors.job_pod(9, "job-driver", "2", "zone-a")
    assert executors.judged().verdict == "held"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"state": "failed", "error": "too few executors"}, "broken"),
        ({"result": "sum 41"}, "broken"),
        ({"state": "unfinished"}, "inconclusive"),
        ({"state": "running"}, "inconclusive"),
        ({"result": None}, "inconclusive"),
    ],
)
def test_a_job_must_complete_with_the_result_of_an_undisturbed_run(
    executors: SyntheticRun, fields: dict[str, Any], word: str
) -> None:
    """One that the end of the load cut off, or that wrote no result down, leaves it open."""
    executors.change("job-executor", **fields)
    verdict = executors.judged()
    assert verdict.verdict == word
    assert "ob job-executor" in verdict.reason
    if "result" in fields and word == "broken":
        assert verdict.reason == (
            "The result of job job-executor is not that of reference reference, an undisturbed run of the same work."
        )


def without_reference(run: SyntheticRun) -> None:
    """Let there be no reference."""
    run.workloads = [one for one in run.workloads if one.kind != "reference"]


def test_another_job_that_lost_nothing_is_an_undisturbed_run(executors: SyntheticRun) -> None:
    """Where there is no reference."""
    without_reference(executors)
    assert executors.judged().evidence["undisturbed"] == {"job-executor": ["job-elsewhere"]}


def other_work(run: SyntheticRun) -> None:
    """Let the reference have been other work."""
    without_reference(run)
    run.job("job-elsewhere", 5, 105, failed_tasks=1)
    run.job("reference", 2, 15, kind="reference")
    run.workloads = [
        one if one.workload != "reference" or one.state != "submitted" else type(one)(
            one.engine, one.workload, one.kind, one.state, one.mono, one.wall, details={"parameters": "rows=5"}
        )
        for one in run.workloads
    ]  # fmt: skip


def failed_tasks_elsewhere(run: SyntheticRun) -> None:
    """Let the only other job have had a failed task."""
    without_reference(run)
    run.job("job-elsewhere", 5, 105, failed_tasks=1)


def lost_pod_elsewhere(run: SyntheticRun) -> None:
    """Let the only other job have had an executor in the lost zone."""
    without_reference(run)
    run.job_pod(9, "job-elsewhere", "9", "zone-a")
    run.job_pod(55, "job-elsewhere", "10", "zone-b")


def nobody_in_flight(run: SyntheticRun) -> None:
    """Let the jobs have ended before the fault, or have been accepted less than a second before."""
    for name in ("job-driver", "job-executor"):
        run.job(name, 5, 29)
    run.job("job-elsewhere", 29.1, 100)


def another_result(run: SyntheticRun) -> None:
    """Let two references differ."""
    run.job("reference-2", 2, 15, kind="reference", result="sum 43")


def returned_early(run: SyntheticRun) -> None:
    """Let the zone return before the replacement came."""
    run.without("pod", executor="3")
    run.job_pod(HEALING_S + 1, "job-executor", "3", "zone-c")


def ended_early(run: SyntheticRun) -> None:
    """Let the job end before the deadline, with the zone lost, 29.9 s after its lost executor was let go."""
    no_replacement(run)
    run.prolong(160)
    run.job_pod(70.1, "job-executor", "2", "zone-a", deleting=True)


def never_let_go(run: SyntheticRun) -> None:
    """Let the job end before Kubernetes has let its lost executor go, which was not ready any more."""
    no_replacement(run)
    run.prolong(160)
    run.job_pod(50, "job-executor", "2", "zone-a", ready=False)
    run.job_pod(101, "job-executor", "2", "zone-a", op="DELETED")


def one_not_let_go(run: SyntheticRun) -> None:
    """Let the job have lost two executors, of which only one was let go in time for another to come."""
    no_replacement(run)
    run.prolong(160)
    run.job_pod(9, "job-executor", "7", "zone-a")
    run.job_pod(50, "job-executor", "7", "zone-a", deleting=True)


SPOILT_EXECUTORS: dict[str, tuple[Callable[[SyntheticRun], object], str]] = {
    "no undisturbed run": (failed_tasks_elsewhere, "there was no undisturbed run of the work of job job-executor"),
    "the other lost a pod": (lost_pod_elsewhere, "there was no undisturbed run of the work of job job-executor"),
    "other work": (other_work, "there was no undisturbed run"),
    "references differ": (another_result, "undisturbed runs of the same work differ"),
    "none in flight": (nobody_in_flight, "no job was in flight"),
    "no executor": (lambda run: run.without("pod", executor="2"), "no job in flight had executors in a lost zone"),
    "driver unknown": (lambda run: run.without("pod", role="driver"), "no job in flight had executors in a lost zone"),
    "zone returned": (returned_early, "the zone returned 45.0 s after the fault, with executor 2"),
    "job ended": (ended_early, "job job-executor ended 70.0 s after the fault, with executor 2 (zone-a)"),
    "one executor not let go": (
        one_not_let_go,
        "job job-executor ended 70.0 s after the fault, with executor 2 (zone-a)",
    ),
    "executor not let go": (never_let_go, "job job-executor ended 70.0 s after the fault, with executor 2 (zone-a)"),
    "watch lost": (lambda run: run.add(40, "watch.lost", what="pods", error="gone"), "the watch of pods was lost"),
    "not under load": (lambda run: run.without("load.begin", engine="spark"), "spark was not under load"),
}


@pytest.mark.parametrize("spoilt", SPOILT_EXECUTORS)
def test_what_is_missing_leaves_the_executors_open(executors: SyntheticRun, spoilt: str) -> None:
    """With a sentence that says what, and why."""
    spoil, reason = SPOILT_EXECUTORS[spoilt]
    spoil(executors)
    verdict = executors.judged()
    assert verdict.verdict == "inconclusive"
    assert reason in verdict.reason[:1].lower() + verdict.reason[1:]


def not_ready(run: SyntheticRun) -> None:
    """Let the driver not have been ready when its zone was lost."""
    run.job_pod(20, "job-driver", "driver", "zone-a", ready=False)


SPOILT_DRIVER: dict[str, tuple[Callable[[SyntheticRun], object], str]] = {
    "none in flight": (nobody_in_flight, "no job was in flight"),
    "no driver there": (not_ready, "no job in flight had its driver in a lost zone"),
    "watch lost": (lambda run: run.add(20, "watch.lost", what="pods", error="gone"), "the watch of pods was lost"),
    "not under load": (lambda run: run.without("load.begin", engine="spark"), "spark was not under load"),
}


@pytest.mark.parametrize("spoilt", SPOILT_DRIVER)
def test_what_is_missing_leaves_the_driver_open(driver: SyntheticRun, spoilt: str) -> None:
    """With a sentence that says what, and why."""
    spoil, reason = SPOILT_DRIVER[spoilt]
    spoil(driver)
    verdict = driver.judged()
    assert verdict.verdict == "inconclusive"
    assert reason in verdict.reason[:1].lower() + verdict.reason[1:]


def test_a_watch_lost_after_the_fault_says_nothing_of_a_driver(driver: SyntheticRun) -> None:
    """Where it stood was seen before."""
    driver.add(40, "watch.lost", what="pods", error="gone")
    assert driver.judged().verdict == "held"


def test_what_is_broken_stays_broken_beside_what_is_open(executors: SyntheticRun) -> None:
    """A job that failed is no less broken because nobody saw its executor come back."""
    returned_early(executors)
    executors.change("job-executor", state="failed")
    assert executors.judged().verdict == "broken"
