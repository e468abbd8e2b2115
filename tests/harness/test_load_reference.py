"""The undisturbed run of a job, with whose result others are compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_spark import RESULT, FakeSpark, fake_spark

from gameday.records import Recorder, WorkloadStep, read_workloads
from loadgen import spark_reference
from loadgen.spark_reference import run_reference

pytestmark = pytest.mark.needs("spark")

ARGUMENTS = {"rows": 10, "partitions": 4, "rounds": 3, "pace_s": 2.0, "seed": 7}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeSpark, str]]:
    """Yield a service whose jobs end after three tasks, and its URL."""
    monkeypatch.setattr(spark_reference, "_LOOK_S", 0.02)
    with fake_spark() as (spark, url):
        spark.ends_after = 3
        yield spark, url


def states(steps: list[WorkloadStep]) -> list[str]:
    """Return the states of steps, each run of `running` once."""
    found = [step.state for step in steps]
    return [state for number, state in enumerate(found) if number == 0 or found[number - 1] != state]


def test_the_same_job_runs_without_pauses(served: tuple[FakeSpark, str], tmp_path: Path) -> None:
    """It is submitted with the same work, no pauses and one executor; its steps are written as they come."""
    recorder = Recorder(tmp_path, "harness")
    steps = run_reference(served[1], ARGUMENTS, recorder.workload, deadline_s=5)
    recorder.close()
    assert states(steps) == ["submitted", "accepted", "running", "succeeded"]
    (body,) = served[0].submitted.values()
    assert body["arguments"] == {**ARGUMENTS, "pace_s": 0}
    assert (body["executors"], body["name"].startswith("reference-")) == (1, True)
    (job,) = read_workloads(tmp_path)
    assert (job.steps, job.kind, job.name) == (tuple(steps), "reference", body["name"])
    # text for text what a job of the load has
    assert job.last.result == '{"digest":"ab","rounds":3,"rows":10,"sum":42}'
    assert job.detail("parameters") == '{"partitions":4,"rounds":3,"rows":10,"seed":7}'
    assert job.last.engine_id == f"id-of-{job.name}"


def test_requests_that_fail_are_sent_again(served: tuple[FakeSpark, str]) -> None:
    """Neither a lost answer nor a busy service ends it, and no job is submitted twice."""
    served[0].fail("POST", 503)
    served[0].fail("POST", carried_out=True)
    served[0].fail("GET", 502, times=2)
    served[0].fail("GET")
    assert states(run_reference(served[1], ARGUMENTS, lambda _: None, deadline_s=5))[-1] == "succeeded"
    assert len(served[0].submitted) == 1


def test_a_reference_that_fails_says_why(served: tuple[FakeSpark, str]) -> None:
    """The reason is the service's own."""
    served[0].fail("POST", 400)
    steps = run_reference(served[1], ARGUMENTS, lambda _: None, deadline_s=5)
    assert states(steps) == ["submitted", "failed"]
    assert "HTTP 400" in str(steps[-1].error)

    def end(step: WorkloadStep) -> None:
        if step.state == "running":
            served[0].end("failed", reason="out of memory", result=RESULT)

    steps = run_reference(served[1], ARGUMENTS, end, deadline_s=5)
    assert (steps[-1].state, steps[-1].error, steps[-1].result) == ("failed", "out of memory", None)


def test_a_reference_that_does_not_end_is_unfinished(served: tuple[FakeSpark, str]) -> None:
    """After its time it is taken away, and its last step says what was seen."""
    served[0].ends_after = 1_000_000
    steps = run_reference(served[1], ARGUMENTS, lambda _: None, deadline_s=0.3)
    assert (steps[-1].state, served[0].deleted) == ("unfinished", [steps[-1].workload])
    assert "last seen: running" in str(steps[-1].error)
