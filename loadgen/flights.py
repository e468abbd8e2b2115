"""What the users of all engines share: the operations that are in flight, and how it is written down what they saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.pool import Pool

from gameday.records import LedgerEntry, LedgerState, Outcome, Recorder, Request, WorkloadState, WorkloadStep
from gameday.timeline import now
from loadgen.client import Answer

IN_FLIGHT_MAX = 400
_FINISH_S = 5.0
# for what is still in flight then to take its leave of the server
_LEAVE_S = 3.0

Told = Callable[[Request], None]
Failed = Callable[[BaseException], None]


@dataclass(frozen=True)
class Ended:
    """How an operation ended for the client that asked for it; `error` is None where it got what it asked for."""

    error: str | None = None
    attempts: int = 1
    status: int | None = None
    replica: str | None = None
    attempt_errors: list[str] = field(default_factory=list)


def ended_by(answer: Answer) -> Ended:
    """Return how an operation ended that is one HTTP request, by its answer."""
    last = answer.last
    error = None if last.ok else answer.errors[-1]
    return Ended(error, answer.attempts, last.status, last.replica, answer.errors)


class Notebook:
    """Where one user writes down what it saw; without a recorder only Locust's statistics hear of it."""

    def __init__(self, engine: str, recorder: Recorder | None, told: Told, failed: Failed) -> None:
        """`told` hears of every finished request; what is recorded goes to `recorder`.

        `failed` hears of what went wrong in the load itself, such as a full disk: the evidence has a hole then.
        """
        self.engine = engine
        self.failed = failed
        self._recorder = recorder
        self._told = told

    def request(self, request: Request) -> None:
        """Write down one finished operation."""
        if self._recorder:
            self._recorder.request(request)
        self._told(request)

    def ledger(self, place: str, item: str, state: LedgerState) -> None:
        """Write down one step of a write, now."""
        if self._recorder:
            wall, mono = now()
            self._recorder.ledger(LedgerEntry(self.engine, place, item, state, mono, wall))

    def step(self, workload: str, kind: str, state: WorkloadState, **rest: Any) -> None:  # noqa: ANN401 - of its fields
        """Write down one step of a workload, now; `rest` are the other fields of WorkloadStep."""
        if self._recorder:
            wall, mono = now()
            self._recorder.workload(WorkloadStep(self.engine, workload, kind, state, mono, wall, **rest))


class Flights:
    """The operations of one user that are in flight, and its work in the background."""

    def __init__(self, notebook: Notebook) -> None:
        """What becomes of the operations is written into `notebook`."""
        self._notebook = notebook
        self._flights: dict[int, tuple[str, float, float, float]] = {}
        self._pool = Pool(IN_FLIGHT_MAX)
        self._background = Pool()

    def spawn(self, name: str, due: float, send: Callable[[], Ended]) -> None:
        """Carry out an operation that was due at a moment (monotonic seconds), or drop it where there is no room."""
        if self._pool.free_count() <= 0:
            self.drop(name, due, f"{IN_FLIGHT_MAX} requests are in flight already")
            return
        flight = self._pool.spawn(self._flight, name, due, send)
        flight.link_exception(lambda ended: self._notebook.failed(ended.exception))

    def drop(self, name: str, due: float, reason: str) -> None:
        """Write down that there was no room for an operation."""
        wall, moment = now()
        self._notebook.request(
            Request(self._notebook.engine, name, due, moment, moment, wall, "dropped", 0, None, reason)
        )

    def work(self, work: Callable[[], None]) -> None:
        """Do something in the background until `finish`, which raises GreenletExit in it where it has not ended."""
        self._background.spawn(work).link_exception(lambda ended: self._notebook.failed(ended.exception))

    def finish(self) -> None:
        """End the background's work, wait 5 s for what is in flight, and write down the rest as unfinished.

        GreenletExit is raised in that rest, which has 3 s to end what it began at the server.
        """
        self._background.kill(block=False)
        with gevent.Timeout(_FINISH_S, False):  # noqa: FBT003 - gevent's own way to say that nothing is raised
            self._pool.join()
            self._background.join()
        for name, due, started, wall in list(self._flights.values()):
            self._record(name, due, started, wall, "unfinished", Ended())
        self._flights.clear()
        self._pool.kill(timeout=_LEAVE_S)

    def _flight(self, name: str, due: float, send: Callable[[], Ended]) -> None:
        wall, started = now()
        key = id(gevent.getcurrent())
        self._flights[key] = (name, due, started, wall)
        ended = send()
        # one that was written down as unfinished is not written down again
        if self._flights.pop(key, None):
            self._record(name, due, started, wall, "error" if ended.error else "ok", ended)

    def _record(self, name: str, due: float, started: float, wall: float, outcome: Outcome, ended: Ended) -> None:
        _, mono = now()
        self._notebook.request(
            Request(
                self._notebook.engine,
                name,
                due,
                started,
                mono,
                wall,
                outcome,
                ended.attempts,
                ended.status,
                ended.error,
                ended.replica,
                ended.attempt_errors,
            )
        )
