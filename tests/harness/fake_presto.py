"""A small Presto on loopback that speaks its clients' protocol and fails as it is told, for tests of the load."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fake_http import FakeService, served

# How the coordinator names itself: an address that clients who come by a load balancer do not reach.
INTERNAL = "presto-coordinator.internal:8080"
_INSERT = re.compile(r"VALUES \('([^']+)', '([^']+)', TIMESTAMP '[-0-9]{10} [:.0-9]{12}', '[^']*'\)")
_RUN = re.compile(r"run = '([^']*)'")


def presto_error(name: str, code: int, kind: str, message: str) -> dict[str, Any]:
    """Return the error of an answer."""
    return {"errorName": name, "errorCode": code, "errorType": kind, "message": message}


GONE = presto_error("NO_NODES_AVAILABLE", 65549, "INTERNAL_ERROR", "No nodes available to run query")
REFUSED = presto_error("SYNTAX_ERROR", 1, "USER_ERROR", "line 1:1: no")


class FakePresto(FakeService):
    """Queries in memory; the table of saved queries; the errors that queries of some words end with."""

    def __init__(self) -> None:
        super().__init__()
        # statements by the name of their query
        self.queries: dict[str, str] = {}
        self.cancelled: list[str] = []
        # what has been saved: (id, run)
        self.saved: list[tuple[str, str]] = []
        # words of a statement, and the error that it ends with
        self.errors: dict[str, dict[str, Any]] = {}
        # words of statements that run for ever
        self.endless: set[str] = set()
        self.counts = {"SELECT 1": 1, "tpcds.tiny.ship_mode": 20, "tpcds.tiny.household_demographics": 7200}
        # long queries stay queued until then
        self.has_workers = True

    @property
    def statements(self) -> list[str]:
        """All statements that were accepted, in their order."""
        return list(self.queries.values())

    def respond(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Take a statement, answer with its next page, or end it."""
        with self.lock:
            if method == "POST" and path == "/v1/statement":
                name = f"20261124_000000_{len(self.queries):05}_fake"
                self.queries[name] = body.decode()
                return 200, self._page(name, "QUEUED", 1)
            name, token = path.partition("?")[0].split("/")[-2:]
            if name not in self.queries or "?slug=" not in path:
                return 404, b"no such query"
            if method == "DELETE":
                self.cancelled.append(name)
                return 204, b""
            return 200, self._advance(name, int(token))

    def _advance(self, name: str, token: int) -> bytes:
        statement = self.queries[name]
        error = next((error for words, error in self.errors.items() if words in statement), None)
        if error:
            return self._page(name, "FAILED", None, error=error)
        if any(words in statement for words in self.endless):
            return self._page(name, "RUNNING", token + 1)
        if "inventory" in statement:
            return self._page(name, "RUNNING" if self.has_workers else "QUEUED", token + 1, rows=[[1], [2]])
        if token == 1:
            return self._page(name, "RUNNING", 2, rows=self._carry_out(statement))
        return self._page(name, "FINISHED", None)

    def _carry_out(self, statement: str) -> list[list[Any]]:
        if inserted := _INSERT.search(statement):
            self.saved.append((inserted[1], inserted[2]))
            return [[1]]
        if statement.startswith("SELECT DISTINCT id") and (run := _RUN.search(statement)):
            return [[item] for item, own in self.saved if own == run[1]]
        return [[count] for table, count in self.counts.items() if table in statement] or [[0]]

    def _page(
        self,
        name: str,
        state: str,
        following: int | None,
        *,
        rows: list[list[Any]] | None = None,
        error: dict[str, Any] | None = None,
    ) -> bytes:
        page: dict[str, Any] = {"id": name, "stats": {"state": state, "completedSplits": 3, "totalSplits": 9}}
        if following is not None:
            page["nextUri"] = f"http://{INTERNAL}/v1/statement/executing/{name}/{following}?slug=x5"
        page |= {"data": rows} if rows else {}
        return json.dumps(page | ({"error": error} if error else {})).encode()


@contextmanager
def fake_presto() -> Iterator[tuple[FakePresto, str]]:
    """Serve a new Presto on a free port of loopback; yields it and its URL."""
    presto = FakePresto()
    with served(presto) as url:
        yield presto, url
