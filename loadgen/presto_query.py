"""One query of a client of Presto, from its statement to its last page.

The retries are those of presto-python-client 0.8.4 (prestodb/client.py, `PrestoRequest.max_attempts`, and
`retry_with`, `DelayExponential` of prestodb/exceptions.py): each HTTP request of any method is tried up to three times;
again after a 503, a lost or refused connection and a time-out; after none of the other statuses, 502 and 504 among
them. It waits 0.1 s, doubled with each attempt (so that the first wait is below 0.2 s), times a random number below 1.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent

from loadgen.client import Answer, Attempt, Client, Rules
from loadgen.flights import Ended
from loadgen.presto_protocol import STATEMENT, Page, QueryError, headers, page_of

# A query that is given up is ended by the client; a coordinator that does not even answer that is left alone.
_CANCEL_S = 2.0
_BUSY = 503
_ATTEMPTS_MAX = 3


def _retried(_method: str, attempt: Attempt) -> bool:
    return attempt.status is None or attempt.status == _BUSY


def _wait_s(number: int, _attempt: Attempt) -> float:
    return float(0.1 * 2**number * random.random())  # noqa: S311 - jitter is no secret


# A 503 comes from a load balancer that reached nobody, or from a coordinator that is too busy to take the query.
RULES = Rules(_ATTEMPTS_MAX, _retried, _wait_s, frozenset({500, 502, 504}))


def presto_client(base_url: str, user: str, password: str | None) -> Client:
    """Return an HTTP client with what Presto's own client sends and repeats."""
    return Client(base_url, rules=RULES, headers=headers(user, password))


@dataclass
class Query:
    """A query, and how far it has come.

    id              Presto's name for it: it was accepted
    over            nothing is left to ask for
    error           why it ended without success, in Presto's words or in those of HTTP; failure holds the former
    maybe_taken     whether Presto may have taken a statement whose answer did not arrive
    """

    client: Client
    statement: str
    id: str | None = None
    over: bool = False
    error: str | None = None
    failure: QueryError | None = None
    maybe_taken: bool = False
    rows: list[list[Any]] = field(default_factory=list)
    _next: str | None = None
    _retries: int = 0
    _errors: list[str] = field(default_factory=list)
    _status: int | None = None

    def advance(self) -> Page | None:
        """Send the statement, or ask for the next page; None where no page came, and the query is over with an error.

        Presto's client gives a query up at the first request that fails in spite of its retries.
        """
        if self.id is None:
            answer = self.client.request("POST", STATEMENT, self.statement.encode())
            self.maybe_taken = answer.fate_unknown
        else:
            answer = self.client.request("GET", self._next or "")
        self._count(answer)
        if not answer.last.ok:
            self._give_up(answer.errors[-1])
            return None
        try:
            page = page_of(answer.last.body)
        except ValueError as problem:
            self.maybe_taken = True
            self._give_up(str(problem))
            return None
        self.id, self.failure, self._next = page.query_id, page.error, page.next_path
        if page.error:
            self.error, self._next = str(page.error), None
        self.over = self._next is None
        return page

    def run(self, deadline_s: float) -> None:
        """Follow the query to its end and keep its rows; one that takes longer is given up and ended.

        So is one whose client is killed meanwhile: left alone, it would keep one of the coordinator's places
        for queries until that gives its client up.
        """
        patience = gevent.Timeout(deadline_s)
        try:
            with patience:
                while not self.over:
                    page = self.advance()
                    self.rows += page.rows if page else []
        except gevent.Timeout as timeout:
            if timeout is not patience:
                raise
            self._errors.append("timed out")
            self._give_up("timed out")
        except gevent.GreenletExit:
            self.cancel()
            raise
        if self.error:
            # until somebody fetches its result the coordinator would keep it, for minutes
            gevent.spawn(self.cancel)

    def cancel(self) -> None:
        """End the query where Presto has not said that it ended; never raises for what went wrong."""
        self.over = True
        if self._next is None:
            return
        with gevent.Timeout(_CANCEL_S, False):  # noqa: FBT003 - gevent's own way to say that nothing is raised
            self.client.request("DELETE", self._next)
        self._next = None

    def ended(self, *, check: Callable[[list[list[Any]]], str | None] = lambda _: None) -> Ended:
        """Return how it ended as an operation; `check` says of the rows of a successful one what is wrong with them."""
        error = self.error or check(self.rows)
        return Ended(error, 1 + self._retries, self._status, None, self._errors)

    def _give_up(self, error: str) -> None:
        self.error, self.over = error, True

    def _count(self, answer: Answer) -> None:
        self._retries += answer.attempts - 1
        self._errors += answer.errors
        self._status = answer.last.status
