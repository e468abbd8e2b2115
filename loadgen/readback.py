"""The read-back: after the recovery every place of the ledger is read, and what is found there is written down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from gameday.records import LedgerEntry, ReadBack
from gameday.timeline import now
from loadgen.catalogue import snapshot_ids
from loadgen.presto_protocol import STATEMENT, headers, page_of

_AT_ONCE = 4
_TIMEOUT_S = 5.0
_AGAIN_AFTER_S = 0.5
_NOT_FOUND = 404
_UNREADABLE = (httpx.HTTPError, ValueError, KeyError)


def read_back_mds(base_url: str, ledger: Iterable[LedgerEntry], *, deadline_s: float) -> list[ReadBack]:
    """Return the snapshots found in each table of the ledger, after as many tries as `deadline_s` seconds allow.

    A table that could not be read carries an error. One that the catalogue says it does not have was read all the same:
    it holds nothing, and all that was acknowledged in it is lost.
    """
    return _read_all("mds", base_url, {}, ledger, _snapshots, deadline_s)


def read_back_presto(
    base_url: str, ledger: Iterable[LedgerEntry], *, deadline_s: float, user: str = "load", password: str | None = None
) -> list[ReadBack]:
    """Return the saved queries found of each run of the ledger, as `read_back_mds` does with tables.

    A table that Presto says it does not have holds nothing.
    """
    return _read_all("presto", base_url, headers(user, password), ledger, _saved_queries, deadline_s)


def _read_all(
    engine: str,
    base_url: str,
    sent: dict[str, str],
    ledger: Iterable[LedgerEntry],
    items_of: Callable[[httpx.Client, str, float], list[str]],
    deadline_s: float,
) -> list[ReadBack]:
    places = sorted({entry.place for entry in ledger})
    end = time.monotonic() + deadline_s
    # the engine is on this machine: a proxy of the environment is not meant for it
    with (
        httpx.Client(base_url=base_url, headers=sent, timeout=_TIMEOUT_S, trust_env=False) as client,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        return list(
            pool.map(
                lambda place: read_place(engine, place, lambda: items_of(client, place, end), end, _UNREADABLE), places
            )
        )


def read_place(
    engine: str, place: str, look: Callable[[], list[str]], end: float, unreadable: tuple[type[Exception], ...]
) -> ReadBack:
    """Return what `look` finds in a place; tried again until `end` (monotonic) where it raises one of `unreadable`."""
    error: str | None = "the deadline passed before it was read"
    items: list[str] = []
    if (left_s := end - time.monotonic()) > 0:
        again = Retrying(
            stop=stop_after_delay(left_s),
            wait=wait_fixed(_AGAIN_AFTER_S),
            retry=retry_if_exception_type(unreadable),
            reraise=True,
        )
        try:
            items, error = again(look), None
        except unreadable as problem:
            error = f"{type(problem).__name__}: {problem}"
    wall, mono = now()
    return ReadBack(engine, place, items, mono, wall, error)


def _snapshots(client: httpx.Client, place: str, _end: float) -> list[str]:
    namespace, table = place.split(".")
    answer = client.get(f"/v1/namespaces/{namespace}/tables/{table}")
    if answer.status_code == _NOT_FOUND:
        return []
    answer.raise_for_status()
    return snapshot_ids(answer.json()["metadata"])


def _saved_queries(client: httpx.Client, place: str, end: float) -> list[str]:
    table, _, run = place.partition("/")
    statement = f"SELECT DISTINCT id FROM {table} WHERE run = '{run}'"  # noqa: S608 - our own words, from our ledger
    answer = client.post(STATEMENT, content=statement.encode())
    found: list[str] = []
    while True:
        answer.raise_for_status()
        page = page_of(answer.content)
        if page.error and page.error.gone:
            return []
        if page.error:
            raise ValueError(str(page.error))
        found += [str(row[0]) for row in page.rows]
        if page.next_path is None:
            return sorted(found)
        # a last try may take as long as a request to a catalogue that says nothing
        if time.monotonic() >= end + _TIMEOUT_S:
            raise ValueError(f"the deadline passed while the query {page.query_id} was {page.state}")
        answer = client.get(page.next_path)
