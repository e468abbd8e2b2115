"""What clients of Presto do: count rows of small tables, save a query in the console's database, read a long result."""

from __future__ import annotations

import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

from gameday.records import LedgerState
from gameday.timeline import now
from gameday.waiting import wait_until
from loadgen.flights import Ended, Flights, Notebook
from loadgen.presto_long import LongQueries
from loadgen.presto_protocol import CONSOLE_TABLE, USER_ERROR
from loadgen.presto_query import Query, presto_client
from loadgen.schedule import operation

ENGINE = "presto"
# Longer than the three attempts of one HTTP request: a coordinator that is gone is noticed by those.
_QUERY_S = 30.0
# Arrivals of one a second do not pile up as long as each takes less than this, so many times in a row: a JVM that has
# just started interprets, and the fifth query of a kind takes a third of what the first took.
_IN_TIME_S, _IN_TIME_ROUNDS = 1.0, 5
_LOOK_S = 1.0
# The counts of TPC-DS, whose specification fixes them at every scale. Its generator has its data at once; that of TPC-H
# makes 300 MB of text first in each new worker, 4 s of work for which every query would wait. Between them, as pools of
# clients do to see whether they are still served, a statement that one worker answers.
_ANSWERED = {
    "count_ship_modes": ("SELECT count(*) FROM tpcds.tiny.ship_mode", 20),
    "count_households": ("SELECT count(*) FROM tpcds.tiny.household_demographics", 7200),
    "select_one": ("SELECT 1", 1),
}
_CREATE = f"CREATE TABLE IF NOT EXISTS {CONSOLE_TABLE} (id varchar, run varchar, saved_at timestamp, text varchar)"
_LOOK = f"SELECT count(*) FROM {CONSOLE_TABLE}"  # noqa: S608 - a name of ours


class PrestoClients:
    """The clients of one Locust user: short queries at each arrival, and long ones that are always in flight."""

    def __init__(
        self,
        base_url: str,
        notebook: Notebook,
        *,
        user: str = "load",
        password: str | None = None,
        long_queries: int = 1,
        ready_deadline_s: float = 120.0,
    ) -> None:
        """Ask as `user` at `base_url`, and keep so many `long_queries` in flight; `notebook` hears of all."""
        self._client = presto_client(base_url, user, password)
        self._notebook = notebook
        self._flights = Flights(notebook)
        self._long = LongQueries(self._client, notebook, self._flights, long_queries)
        self._ready_deadline_s = ready_deadline_s
        self._run = secrets.token_hex(4)

    @property
    def place(self) -> str:
        """The name by which the ledger knows the saved queries of this user."""
        return f"{CONSOLE_TABLE}/{self._run}"

    def prepare(self) -> None:
        """Create the table of saved queries, wait until queries are answered in time, and until a long query runs.

        A worker that has just started compiles what its first queries need; arrivals that come faster than
        they are answered would only pile up on it.

        Raises DeadlinePassed where Presto does not let us. Of two users that create the table at once one may fail; it
        finds the table when it tries again.
        """
        wait_until(
            "Presto to take the load's table",
            lambda: self._ask(_CREATE) or self._ask(_LOOK),
            deadline_s=self._ready_deadline_s,
            every_s=_LOOK_S,
        )
        wait_until(
            "Presto to answer queries in time", self._slow, deadline_s=self._ready_deadline_s, every_s=_LOOK_S / 5
        )
        self._long.begin()
        wait_until(
            "a long query to run", self._long.not_running, deadline_s=self._ready_deadline_s, every_s=_LOOK_S / 5
        )

    def arrive(self, number: int, due: float) -> None:
        """Carry out the operation of an arrival that was due at a moment (monotonic seconds)."""
        name = operation(ENGINE, number)
        self._flights.spawn(name, due, self._save_query if name == "save_query" else lambda: self._answered(name))

    def finish(self) -> None:
        """End the long queries, wait 5 s for what is in flight, and write down the rest as unfinished."""
        self._flights.finish()

    def _slow(self) -> str | None:
        """Run each query that reads some times and tell which took too long or failed, None where none did."""
        for name, (statement, _) in list(_ANSWERED.items()) * _IN_TIME_ROUNDS:
            _, begin = now()
            failed = self._ask(statement)
            took_s = now()[1] - begin
            if failed or took_s > _IN_TIME_S:
                return f"{name} {failed or f'took {took_s:.1f} s'}"
        return None

    def _ask(self, statement: str) -> str | None:
        """Run a statement and return why it failed, None where it did not."""
        query = Query(self._client, statement)
        query.run(_QUERY_S)
        return query.error

    def _answered(self, name: str) -> Ended:
        statement, expected = _ANSWERED[name]
        query = Query(self._client, statement)
        query.run(_QUERY_S)

        def check(rows: list[list[Any]]) -> str | None:
            return None if rows == [[expected]] else f"wrong result: {str(rows)[:100]} instead of {expected}"

        return query.ended(check=check)

    def _save_query(self) -> Ended:
        item = str(uuid.uuid4())
        moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        self._notebook.ledger(self.place, item, "attempted")
        query = Query(
            self._client,
            f"INSERT INTO {CONSOLE_TABLE} VALUES ('{item}', '{self._run}', TIMESTAMP '{moment}', 'SELECT 1')",  # noqa: S608 - our own words
        )
        query.run(_QUERY_S)
        self._notebook.ledger(self.place, item, _fate(query))
        return query.ended()


def _fate(query: Query) -> LedgerState:
    """Return what is known of a write: what Presto said, or that it may have been carried out without our being told.

    A statement that was sent again after a lost answer may have been carried out by its first attempt.
    """
    if query.error is None:
        return "acknowledged"
    if query.maybe_taken:
        return "unknown"
    if query.failure:
        return "rejected" if query.failure.type == USER_ERROR else "unknown"
    return "rejected" if query.id is None and query.error != "timed out" else "unknown"
