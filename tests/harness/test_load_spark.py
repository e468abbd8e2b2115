"""What Spark's clients do: the life of a job, the arrivals around it, and what is written down of both."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import gevent
import pytest
from fake_spark import RESULT, FakeSpark, fake_spark

from gameday.errors import DeadlinePassed, HarnessError, UsageError
from gameday.records import Recorder, Request, Workload, read_requests, read_workloads
from gameday.timeline import now
from loadgen import flights, spark
from loadgen.flights import Notebook
from loadgen.jobs import read_jobs
from loadgen.schedule import pace
from loadgen.spark import ENGINE, SparkClients

pytestmark = pytest.mark.needs("spark")

ARGUMENTS = {"rows": 10, "partitions": 4, "rounds": 3, "pace_s": 2.0, "seed": 7}
PARAMETERS = '{"partitions":4,"rounds":3,"rows":10,"seed":7}'
JOBS = [
    {"name": "sums", "arguments": ARGUMENTS, "driver_zones": ["zone-a"], "executor_zones": {"required": ["zone-b"]}},
    {"name": "other", "kind": "bystander", "arguments": ARGUMENTS, "executors": 1},
]


class Bench:
    """A submission service, clients of it, and what they recorded."""

    def __init__(self, served: FakeSpark, url: str, folder: Path) -> None:
        self.spark = served
        self.url = url
        self.folder = folder
        self.failures: list[BaseException] = []
        self.recorder = Recorder(folder, "test")
        self.notebook = Notebook(ENGINE, self.recorder, lambda _: None, self.failures.append)
        self.clients = self.clients_with(JOBS)

    def clients_with(self, jobs: list[dict[str, Any]] | None) -> SparkClients:
        """Return clients of these jobs."""
        wanted = read_jobs(json.dumps(jobs)) if jobs else None
        return SparkClients(self.url, self.notebook, wanted, ready_deadline_s=2)

    def arrive(self, times: int, first: int = 0) -> list[Request]:
        """Let arrivals come one after another; return the requests that were recorded of them."""
        before = len(read_requests(self.folder))
        for number in range(first, first + times):
            self.clients.arrive(number, now()[1])
            self.await_true(lambda: len(read_requests(self.folder)) == before + number - first + 1)  # noqa: B023
        return read_requests(self.folder)[before:]

    def jobs(self) -> dict[str, Workload]:
        """Return what was recorded of the jobs, by the name without its suffix."""
        return {job.name.rpartition("-")[0]: job for job in read_workloads(self.folder)}

    def await_true(self, met: Callable[[], bool]) -> None:
        """Let the clients work until something is so."""
        with gevent.Timeout(5):
            while not met():
                gevent.sleep(0.01)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Yield clients of two jobs that look often whether these run."""
    # as Locust does with all of a process
    monkeypatch.setattr("time.sleep", gevent.sleep)
    monkeypatch.setattr(spark, "_LOOK_S", 0.02)
    monkeypatch.setattr(spark, "_AGAIN_AFTER_S", 0.02)
    with fake_spark() as (served, url):
        made = Bench(served, url, tmp_path)
        yield made
        made.clients.finish()
        made.recorder.close()
    assert not made.failures


def test_jobs_are_submitted_as_they_were_declared(bench: Bench) -> None:
    """The load begins when all run; names are unique, the rest is what the experiment said or what is usual."""
    bench.clients.prepare()
    body = next(body for name, body in bench.spark.submitted.items() if name.startswith("sums-"))
    assert body == {
        "name": body["name"], "application": "paced-sums", "arguments": ARGUMENTS, "executors": 2,
        "driver_zones": ["zone-a"], "executor_zones": {"required": ["zone-b"]}, "conf": {},
    }  # fmt: skip
    assert len(body["name"]) == len("sums-") + 6
    job = bench.jobs()["sums"]
    assert [step.state for step in job.steps[:3]] == ["submitted", "accepted", "running"]
    assert (job.kind, job.engine, job.last.engine_id) == ("job", "spark", f"id-of-{job.name}")
    assert bench.jobs()["other"].kind == "bystander"


def test_the_life_of_a_job(bench: Bench) -> None:
    """Each look at a job is a step with its numbers; its result is there without what depends on the run."""
    bench.clients.prepare()
    assert {request.operation for request in bench.arrive(2)} == {"job_status"}
    job = bench.jobs()["sums"]
    assert job.last.details == {
        "completed_tasks": job.detail("completed_tasks"), "active_tasks": 1, "failed_tasks": 0, "executors": 2,
        "executor_ids": ["1", "2"], "parameters": PARAMETERS, "driver_pod": "d", "application_id": "spark-7",
    }  # fmt: skip
    bench.spark.end("succeeded", result=RESULT)
    assert [request.operation for request in bench.arrive(8)].count("job_status") == 2
    last = bench.jobs()["sums"].last
    assert (last.state, last.result) == ("succeeded", '{"digest":"ab","rounds":3,"rows":10,"sum":42}')
    assert last.details["parameters"] == PARAMETERS
    bench.clients.finish()
    # what has ended is neither unfinished nor taken away
    assert bench.jobs()["sums"].last == last
    assert not bench.spark.deleted


def test_equal_results_are_equal_texts(bench: Bench) -> None:
    """Order of the fields and failed tasks make no difference, anything else does."""
    bench.clients.prepare()
    names = list(bench.spark.jobs)
    bench.spark.jobs[names[0]].update(state="succeeded", result={**RESULT, "failed_tasks": 5})
    bench.spark.jobs[names[1]].update(state="succeeded", result=dict(reversed(RESULT.items())) | {"sum": 43})
    bench.arrive(2)
    results = [bench.jobs()[name].last.result for name in ("sums", "other")]
    assert results == [f'{{"digest":"ab","rounds":3,"rows":10,"sum":{total}}}' for total in (42, 43)]


def test_a_job_that_fails_says_why(bench: Bench) -> None:
    """The reason is the service's own, and the job is asked no more: lists take the place of the looks."""
    bench.clients.prepare()
    next(iter(bench.spark.jobs.values()))["reason"] = "the driver's node is not ready"
    bench.arrive(2)
    assert bench.jobs()["sums"].last.details["reason"] == "the driver's node is not ready"
    bench.spark.end("failed", reason="driver pod d was deleted")
    requests = bench.arrive(6)
    assert [request.operation for request in requests] == ["job_status"] * 2 + ["list_jobs"] * 4
    assert {request.outcome for request in requests} == {"ok"}
    last = bench.jobs()["other"].last
    assert (last.state, last.error, last.result) == ("failed", "driver pod d was deleted", None)


def test_a_job_that_is_gone_has_failed(bench: Bench) -> None:
    """A service that does not know a job any more has lost it."""
    bench.clients.prepare()
    bench.spark.jobs.clear()
    assert {(request.outcome, request.status) for request in bench.arrive(2)} == {("error", 404)}
    assert bench.jobs()["sums"].last.state == "failed"


def test_jobs_take_turns_and_every_fourth_arrival_lists(bench: Bench) -> None:
    """Looks go around all jobs that have not ended; requests know who answered them."""
    bench.clients.prepare()
    bench.spark.seen.clear()
    requests = bench.arrive(8)
    assert [request.operation for request in requests] == (["job_status"] * 3 + ["list_jobs"]) * 2
    assert {request.replica for request in requests} == {"spark-1"}
    looks = [path for _, path in bench.spark.seen if path != "/v1/jobs"]
    assert all(first != second for first, second in pairwise(looks))
    assert len(set(looks)) == 2


@pytest.mark.parametrize("status", [None, 502, 503])
def test_a_look_that_fails_is_an_error_and_no_step(bench: Bench, status: int | None) -> None:
    """A service that does not answer says nothing of the job; there are no retries."""
    bench.clients.prepare()
    steps = len(bench.jobs()["sums"].steps) + len(bench.jobs()["other"].steps)
    bench.spark.fail("GET", status)
    (request,) = bench.arrive(1)
    assert (request.outcome, request.attempts, request.status) == ("error", 1, status)
    assert len(bench.jobs()["sums"].steps) + len(bench.jobs()["other"].steps) == steps


def test_what_is_no_job_is_an_error(bench: Bench) -> None:
    """An answer that cannot be read is an error of the operation and no failure of the load."""
    bench.clients.prepare()
    for job in bench.spark.jobs.values():
        job["state"] = None
    (request,) = bench.arrive(1)
    assert request.outcome == "error"
    assert "is no job" in str(request.error)


def test_jobs_that_run_at_the_end_are_unfinished_and_taken_away(bench: Bench) -> None:
    """The end of the load ends its jobs, and is on record as that."""
    bench.clients.prepare()
    bench.clients.finish()
    assert [job.last.state for job in bench.jobs().values()] == ["unfinished"] * 2
    assert sorted(bench.spark.deleted) == sorted(bench.spark.jobs)


def test_a_look_that_is_answered_after_the_end_changes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that were in flight when the load was stopped write no step after `unfinished`."""
    monkeypatch.setattr(spark, "_CANCEL_S", 0.1)
    bench.clients.prepare()
    bench.spark.running.clear()
    for number in range(3):
        bench.clients.arrive(number, now()[1])
    gevent.sleep(0.05)
    threading.Timer(0.4, bench.spark.running.set).start()
    bench.clients.finish()
    assert [job.last.state for job in bench.jobs().values()] == ["unfinished"] * 2
    assert [request.outcome for request in read_requests(bench.folder)] == ["ok"] * 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"missing": 1}, r"sums-\w+ is running with \d+ tasks completed and 1 of 2 executors active"),
        ({"ends_after": 0}, r"the job sums-\w+ of the load ended before it ran: it succeeded"),
    ],
)
def test_a_load_that_is_not_ready_names_the_job(bench: Bench, change: dict[str, int], sentence: str) -> None:
    """Jobs that do not come to work with all their executors are named, with their state."""
    vars(bench.spark).update(change)
    with pytest.raises(HarnessError, match=sentence):
        bench.clients.prepare()


def test_a_service_that_does_not_answer_is_named_too(bench: Bench) -> None:
    """The last that was seen of a job may be that the service did not answer."""
    bench.spark.fail("GET", 503, times=10_000)
    with pytest.raises(DeadlinePassed, match=r"sums-\w+ is HTTP 503"):
        bench.clients.prepare()


def test_a_job_that_is_not_taken_is_said(bench: Bench) -> None:
    """A load whose job the service refuses says which, and what was answered; the job has failed."""
    bench.spark.fail("POST", 400)
    with pytest.raises(HarnessError, match=r"the job sums-\w+ of the load was not taken: HTTP 400"):
        bench.clients.prepare()
    assert [step.state for step in bench.jobs()["sums"].steps] == ["submitted", "failed"]


def test_without_jobs_small_ones_run_one_after_another(bench: Bench) -> None:
    """A load by hand always has a job, also after one was refused."""
    bench.clients = bench.clients_with(None)
    bench.spark.ends_after = 3
    bench.spark.fail("POST", 503)
    bench.clients.prepare()
    for number in range(40):
        bench.clients.arrive(number, now()[1])
        gevent.sleep(0.02)
    states = [job.last.state for job in read_workloads(bench.folder)]
    assert len(states) >= 4
    assert states[0] == "failed"
    assert set(states[1:-1]) == {"succeeded"}


def test_the_rate_does_not_depend_on_the_service(bench: Bench) -> None:
    """While the service is frozen arrivals come as before, each on its due time; latency counts from there."""
    bench.clients.prepare()
    for after_s, act in ((0.5, bench.spark.running.clear), (1.5, bench.spark.running.set)):
        threading.Timer(after_s, act).start()
    begin = now()[1]
    pace(20, bench.clients.arrive, lambda: now()[1] - begin >= 2.0)
    gevent.sleep(0.1)
    requests = read_requests(bench.folder)
    assert len(requests) == pytest.approx(40, abs=1)
    assert all(
        after.intended - before.intended == pytest.approx(0.05, abs=1e-6) for before, after in pairwise(requests)
    )
    assert max(request.latency_s for request in requests) == pytest.approx(1.0, abs=0.2)


def test_a_frozen_service_does_not_hold_up_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in flight is unfinished soon, jobs too."""
    monkeypatch.setattr(spark, "_CANCEL_S", 0.2)
    monkeypatch.setattr(flights, "_FINISH_S", 0.2)
    bench.clients.prepare()
    bench.spark.running.clear()
    bench.clients.arrive(0, now()[1])
    gevent.sleep(0.05)
    with gevent.Timeout(3):
        bench.clients.finish()
    assert [request.outcome for request in read_requests(bench.folder)] == ["unfinished"]


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "no JSON",
        "@/nowhere/jobs.json",
        '[{"name": "sums"}]',
        '[{"name": "Sums", "arguments": {}}]',
        '[{"name": "sums", "arguments": {}, "zones": []}]',
        '[{"name": "sums", "arguments": {}, "executor_zones": {"wanted": []}}]',
    ],
)
def test_jobs_that_cannot_be_used_are_refused(text: str) -> None:
    """What is no list of jobs is bad input, said in a sentence."""
    with pytest.raises(UsageError, match=r"jobs of the load are not usable|empty list"):
        read_jobs(text)


def test_jobs_may_stand_in_a_file(tmp_path: Path) -> None:
    """`@FILE` is the content of the file."""
    (tmp_path / "jobs.json").write_text(json.dumps(JOBS))
    assert read_jobs(f"@{tmp_path / 'jobs.json'}") == read_jobs(json.dumps(JOBS))
