"""Long queries of a client of Presto: a large table, read so slowly that work on it is in flight all the time."""

from __future__ import annotations

import secrets

import gevent

from gameday.records import WorkloadState
from gameday.timeline import now
from loadgen.client import Client
from loadgen.flights import Flights, Notebook
from loadgen.presto_protocol import Page
from loadgen.presto_query import Query

KIND = "long_query"
# Its tasks are on all workers, and wait there until their output is fetched: in flight at hardly any cost.
_STATEMENT = "SELECT * FROM tpcds.sf1.inventory"
# A page is 32768 rows, 0.2 s of CPU in all: at one each 2 s that was a tenth of a core, a third of what all the short
# queries took. How soon its failure is seen is as exact as that: 5 s of the minute that it may take.
_PAGE_EVERY_S = 5.0
_LOOK_S = 1.0
_PROGRESS_EVERY_S = 5.0
_AGAIN_AFTER_S = 1.0
_RUNNING = "RUNNING"
_STATS = {
    "state": "state", "nodes": "nodes", "queuedSplits": "queued_splits", "runningSplits": "running_splits",
    "completedSplits": "completed_splits", "totalSplits": "total_splits", "processedRows": "processed_rows",
}  # fmt: skip


class LongQueries:
    """So many queries that are kept in flight, each one followed by the next."""

    def __init__(self, client: Client, notebook: Notebook, flights: Flights, count: int) -> None:
        """Work in the background of `flights`, which ends it."""
        self._client = client
        self._notebook = notebook
        self._flights = flights
        self._count = count
        self._begun = 0
        self._seen = "none was accepted"
        self._token = secrets.token_hex(3)
        self._run = False

    def begin(self) -> None:
        """Send the queries."""
        for _ in range(self._count):
            self._flights.work(self._keep)

    def not_running(self) -> str | None:
        """Return None once a query has run (or none is wanted), else what was seen of the latest."""
        return None if self._run or not self._count else self._seen

    def _keep(self) -> None:
        while True:
            self._begun += 1
            life = _Life(self._notebook, f"inventory-{self._token}-{self._begun}", Query(self._client, _STATEMENT))
            try:
                self._follow(life)
            except gevent.GreenletExit:
                life.write("unfinished")
                life.query.cancel()
                raise
            if life.query.error:
                life.write("failed")
                self._seen = life.query.error
                # what was given up for a lost connection may still be at work
                gevent.spawn(life.query.cancel)
                gevent.sleep(_AGAIN_AFTER_S)
            else:
                life.write("succeeded")

    def _follow(self, life: _Life) -> None:
        life.write("submitted")
        accepted, told = False, None
        while not life.query.over:
            page = life.query.advance()
            if page is None:
                return
            life.note(page)
            if not accepted:
                life.write("accepted")
                accepted = True
            if page.error is None and page.state == _RUNNING and (told is None or now()[1] - told >= _PROGRESS_EVERY_S):
                life.write("running")
                told, self._run = now()[1], True
            self._seen = f"{life.query.id} is {page.state}"
            if not life.query.over:
                gevent.sleep(_PAGE_EVERY_S if page.state == _RUNNING else _LOOK_S)


class _Life:
    """A long query as a workload."""

    def __init__(self, notebook: Notebook, name: str, query: Query) -> None:
        self.query = query
        self._notebook = notebook
        self._name = name
        self._stats: dict[str, object] = {}
        self._rows = 0

    def note(self, page: Page) -> None:
        """Remember how far the query has come."""
        self._rows += len(page.rows)
        self._stats = {ours: page.stats[theirs] for theirs, ours in _STATS.items() if theirs in page.stats}

    def write(self, state: WorkloadState) -> None:
        """Write a step down."""
        failure = self.query.failure if state == "failed" else None
        self._notebook.step(
            self._name,
            KIND,
            state,
            engine_id=self.query.id,
            error=self.query.error if state == "failed" else None,
            error_code=failure.code if failure else None,
            details={**self._stats, "rows": self._rows} if self.query.id else {},
        )
