"""What clients of Spark do: submit jobs to the submission service, ask how each one is, list all.

The service is this lakehouse's own and has no client of its own with retries: a request is sent once.
"""

from __future__ import annotations

import json
from typing import Any

import gevent
from gevent.event import Event

from gameday.errors import HarnessError
from gameday.records import WorkloadState
from gameday.waiting import wait_until
from loadgen.client import Answer, Client, Rules
from loadgen.flights import Ended, Flights, Notebook, ended_by
from loadgen.jobs import JOBS, JobWanted, Status, status_of
from loadgen.schedule import operation

ENGINE = "spark"
_REPLICA_HEADER = "X-Replica"
_ONCE = Rules(1, lambda _method, _attempt: False, lambda _number, _attempt: 0.0, frozenset({500, 502, 503, 504}))
_LOOK_S = 1.0
_CANCEL_S = 2.0
_AGAIN_AFTER_S = 1.0
_NOT_FOUND = 404
# What a load runs that is asked for no jobs, one after another.
_SMALL = JobWanted(
    name="load", executors=1, arguments={"rows": 100_000, "partitions": 4, "rounds": 5, "pace_s": 1.0, "seed": 7}
)


class _Job:
    """A job that was submitted, and what was heard of it last."""

    def __init__(self, wanted: JobWanted, name: str) -> None:
        self.wanted = wanted
        self.name = name
        self.id: str | None = None
        self.over = Event()
        self.ran = False
        self.seen = "submitted"

    @property
    def path(self) -> str:
        return f"{JOBS}/{self.name}"

    def heard(self, status: Status) -> None:
        wanted = self.wanted.executors
        active = len(status.executors)
        self.ran |= status.state == "running" and status.completed_tasks > 0 and active >= wanted
        self.seen = status.state + (f" ({status.reason})" if status.reason else "")
        if status.state == "running":
            self.seen += f" with {status.completed_tasks} tasks completed and {active} of {wanted} executors active"


class SparkClients:
    """The clients of one Locust user: its jobs, and those who ask for them at each arrival."""

    def __init__(
        self, base_url: str, notebook: Notebook, jobs: list[JobWanted] | None, *, ready_deadline_s: float = 120.0
    ) -> None:
        """Submit `jobs` at `base_url`, else small ones, one after another; `notebook` hears of all."""
        self._client = Client(base_url, rules=_ONCE, replica_header=_REPLICA_HEADER)
        self._notebook = notebook
        self._flights = Flights(notebook)
        self._wanted = jobs
        self._ready_deadline_s = ready_deadline_s
        self._jobs: list[_Job] = []
        self._turn = 0
        self._refused: str | None = None

    def prepare(self) -> None:
        """Submit the jobs and wait until all run: with a task completed, and all their executors active.

        Raises HarnessError, which names a job and its state, where the service does not take one, where one ends before
        that, or where the deadline passes.
        """
        if self._wanted is None:
            self._flights.work(self._one_after_another)
        for wanted in self._wanted or []:
            self._submit(wanted)
        wait_until(
            "every job of the load to run with a completed task and all its executors",
            self._not_running,
            deadline_s=self._ready_deadline_s,
            every_s=_LOOK_S,
        )

    def arrive(self, number: int, due: float) -> None:
        """Carry out the operation of an arrival that was due at a moment (monotonic seconds).

        A job that has ended is asked no more; without any, the arrivals go on as lists.
        """
        name, live = operation(ENGINE, number), self._live()
        if name == "list_jobs" or not live:
            self._flights.spawn("list_jobs", due, lambda: ended_by(self._client.request("GET", JOBS)))
            return
        job = live[self._turn % len(live)]
        self._turn += 1
        self._flights.spawn(name, due, lambda: self._look(job))

    def finish(self) -> None:
        """Write the jobs that run down as unfinished and end them, wait 5 s for what is in flight."""
        ends = []
        for job in self._live():
            job.over.set()
            self._step(job, "unfinished")
            ends.append(gevent.spawn(self._cancel, job))
        self._flights.finish()
        gevent.joinall(ends)

    def _live(self) -> list[_Job]:
        return [job for job in self._jobs if not job.over.is_set()]

    def _not_running(self) -> str | None:
        if self._refused or not self._jobs:
            return self._refused or "no job was submitted"
        for job in self._jobs:
            if not job.ran and not job.over.is_set():
                looked = self._look(job)
                if looked.error:
                    job.seen = looked.error
            if job.over.is_set() and not job.ran and self._wanted is not None:
                raise HarnessError(f"the job {job.name} of the load ended before it ran: it {job.seen}")
        waiting = [f"{job.name} is {job.seen}" for job in self._jobs if not (job.ran or job.over.is_set())]
        return "; ".join(waiting) or None

    def _submit(self, wanted: JobWanted) -> _Job:
        job = _Job(wanted, wanted.unique_name())
        self._step(job, "submitted")
        answer = self._client.request("POST", JOBS, wanted.body(job.name))
        if not answer.last.ok:
            error = f"{answer.errors[-1]} {answer.last.body[:200].decode(errors='replace')}".strip()
            self._step(job, "failed", error=error)
            raise HarnessError(f"the job {job.name} of the load was not taken: {error}")
        job.id = _id_of(answer)
        self._jobs = [*self._live(), job] if self._wanted is None else [*self._jobs, job]
        self._step(job, "accepted")
        return job

    def _one_after_another(self) -> None:
        while True:
            try:
                job = self._submit(_SMALL)
            except HarnessError as error:
                self._refused = str(error)
                gevent.sleep(_AGAIN_AFTER_S)
                continue
            self._refused = None
            job.over.wait()

    def _look(self, job: _Job) -> Ended:
        """Ask how a job is, and write it down."""
        answer = self._client.request("GET", job.path)
        ended = ended_by(answer)
        if job.over.is_set():
            # another look, or the end of the load, was first
            return ended
        if answer.last.status == _NOT_FOUND:
            job.seen = "is not known to the service any more (HTTP 404)"
            job.over.set()
            self._step(job, "failed", error=job.seen)
        if not answer.last.ok:
            return ended
        try:
            status = status_of(json.loads(answer.last.body))
        except ValueError as problem:
            return Ended(str(problem), ended.attempts, ended.status, ended.replica, [str(problem)])
        job.heard(status)
        if status.ended:
            job.over.set()
        if status.step:
            self._step(job, status.step, **status.fields(job.wanted.parameters))
        return ended

    def _step(self, job: _Job, state: WorkloadState, **rest: Any) -> None:  # noqa: ANN401 - the fields of a step
        rest = {"details": {"parameters": job.wanted.parameters}, **rest}
        self._notebook.step(job.name, job.wanted.kind, state, engine_id=job.id, **rest)

    def _cancel(self, job: _Job) -> None:
        with gevent.Timeout(_CANCEL_S, False):  # noqa: FBT003 - gevent's own way to say that nothing is raised
            self._client.request("DELETE", job.path)


def _id_of(answer: Answer) -> str | None:
    try:
        found = answer.json().get("id")
    except (ValueError, AttributeError):
        return None
    return str(found) if found else None
