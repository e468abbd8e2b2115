"""What clients of MDS do: list namespaces, load tables, one or twelve at once, create tables, commit snapshots."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Literal

from gevent.pool import Pool

from gameday.errors import HarnessError
from loadgen.catalogue import Table, commit_body, create_body, new_snapshot_id, snapshot_ids, table_of
from loadgen.client import Answer, Client
from loadgen.flights import Flights, Notebook, ended_by
from loadgen.schedule import TABLES_OF_A_PLAN, operation

ENGINE = "mds"
# Enough that a commit finds a free table while others wait for their retries: about 2 commits a second, each of which
# holds its table for up to half a minute.
_TABLES = 64
_CREATED_AT_ONCE = 4
# A table's metadata grows with each snapshot; older tables give way to new ones.
_SNAPSHOTS_MAX = 40

Fate = Literal["acknowledged", "rejected", "unknown"]


class MdsClients:
    """The clients of one Locust user: its tables, its connections, and what they do at each arrival."""

    def __init__(self, base_url: str, namespace: str, notebook: Notebook) -> None:
        """Work in a namespace of the user's own at `base_url`, and write down in `notebook` what is seen."""
        self._client = Client(base_url)
        self._namespace = namespace
        self._notebook = notebook
        self._flights = Flights(notebook)
        self._tables: list[Table] = []
        self._free: list[Table] = []
        self._created = 0
        self._random = random.Random(namespace)  # noqa: S311 - which table is loaded is no secret

    def prepare(self) -> None:
        """Create the namespace and its tables; raises HarnessError where the catalogue does not let us."""
        answer = self._client.request("POST", "/v1/namespaces", {"namespace": [self._namespace], "properties": {}})
        if not answer.last.ok:
            raise HarnessError(
                f"the namespace of the load was not created: {answer.errors[-1]} {answer.last.body[:200]!r}"
            )
        for answer, table in Pool(_CREATED_AT_ONCE).imap_unordered(lambda _: self._create(), range(_TABLES)):
            if table is None:
                raise HarnessError(
                    f"a table of the load was not created: {answer.errors[-1]} {answer.last.body[:200]!r}"
                )
            self._add(table)

    def arrive(self, number: int, due: float) -> None:
        """Carry out the operation of an arrival that was due at a moment (monotonic seconds)."""
        name = operation(ENGINE, number)
        if name == "plan_query":
            for table in self._random.sample(self._tables, TABLES_OF_A_PLAN):
                self._spawn("load_table", due, partial(self._client.request, "GET", table.path))
        elif name == "load_table":
            table = self._random.choice(self._tables)
            self._spawn(name, due, partial(self._client.request, "GET", table.path))
        elif name == "list_namespaces":
            self._spawn(name, due, partial(self._client.request, "GET", "/v1/namespaces"))
        elif name == "create_table":
            self._spawn(name, due, self._create_and_add)
        elif self._free:
            table = self._free.pop(0)
            self._spawn(name, due, partial(self._commit_and_free, table))
        else:
            self._flights.drop(name, due, "no table is free to commit to")

    def finish(self) -> None:
        """Wait 5 s for what is in flight, and write down the rest as unfinished."""
        self._flights.finish()

    def _spawn(self, name: str, due: float, send: Callable[[], Answer]) -> None:
        self._flights.spawn(name, due, lambda: ended_by(send()))

    def _create(self) -> tuple[Answer, Table | None]:
        self._created += 1
        name = f"t{self._created}"
        path = f"/v1/namespaces/{self._namespace}/tables"
        answer = self._client.request("POST", path, create_body(name))
        if answer.last.status == 409 and answer.fate_unknown:  # noqa: PLR2004 - HTTP's own number for "it exists"
            # an attempt whose answer was lost had made it
            answer = _joined(answer, self._client.request("GET", f"{path}/{name}"))
        return answer, table_of(self._namespace, name, answer.json()) if answer.last.ok else None

    def _create_and_add(self) -> Answer:
        answer, table = self._create()
        if table:
            self._add(table)
        return answer

    def _add(self, table: Table) -> None:
        self._tables.append(table)
        self._free.append(table)
        if len(self._tables) > _TABLES * 2:
            self._tables.pop(0)

    def _commit_and_free(self, table: Table) -> Answer:
        answer = self._commit(table)
        if table.snapshots < _SNAPSHOTS_MAX or len(self._free) <= _TABLES // 2:
            self._free.append(table)
        return answer

    def _commit(self, table: Table) -> Answer:
        """Commit a snapshot to a table, after a look at the table where the last commit to it failed."""
        if table.known:
            return self._commit_known(table)
        look = self._client.request("GET", table.path)
        if not look.last.ok:
            return look
        table.follow(look.json()["metadata"])
        return _joined(look, self._commit_known(table))

    def _commit_known(self, table: Table) -> Answer:
        snapshot = new_snapshot_id()
        self._notebook.ledger(table.place, str(snapshot), "attempted")
        answer = self._client.request("POST", table.path, commit_body(table, snapshot))
        fate: Fate = "acknowledged" if answer.last.ok else "rejected"
        table.known = False
        if answer.last.ok:
            table.follow(answer.json()["metadata"])
        elif answer.fate_unknown:
            answer, fate = self._check_commit(table, snapshot, answer)
        self._notebook.ledger(table.place, str(snapshot), fate)
        return answer

    def _check_commit(self, table: Table, snapshot: int, answer: Answer) -> tuple[Answer, Fate]:
        """Look whether a commit without a clear answer was carried out all the same.

        Source: Iceberg's Java client since 1.11, reconcileOnSimpleUpdate of RESTTableOperations: the table is loaded
        once; if the snapshot is there the commit succeeded, else its state stays unknown and the caller is told so.
        """
        check = _joined(answer, self._client.request("GET", table.path))
        if not check.last.ok:
            return check, "unknown"
        metadata = check.json()["metadata"]
        table.follow(metadata)
        if str(snapshot) in snapshot_ids(metadata):
            return check, "acknowledged"
        # not there now, but an attempt may still be under way
        table.known = False
        check.last = answer.last
        return check, "unknown"


def _joined(first: Answer, second: Answer) -> Answer:
    """Return the second answer as the end of the first: one request to the client that asked for it."""
    return Answer(second.last, first.attempts + second.attempts, [*first.errors, *second.errors], first.fate_unknown)
