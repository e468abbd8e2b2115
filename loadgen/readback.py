"""The read-back: after the recovery every place of the ledger is read, and what is found there is written down."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from gameday.records import LedgerEntry, ReadBack
from gameday.timeline import now
from loadgen.catalogue import snapshot_ids

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
    places = sorted({entry.place for entry in ledger})
    end = time.monotonic() + deadline_s
    # the catalogue is on this machine: a proxy of the environment is not meant for it
    with (
        httpx.Client(base_url=base_url, timeout=_TIMEOUT_S, trust_env=False) as client,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        return list(pool.map(lambda place: _read(client, place, end), places))


def _read(client: httpx.Client, place: str, end: float) -> ReadBack:
    error: str | None = "the deadline passed before it was read"
    items: list[str] = []
    if (left_s := end - time.monotonic()) > 0:
        again = Retrying(
            stop=stop_after_delay(left_s),
            wait=wait_fixed(_AGAIN_AFTER_S),
            retry=retry_if_exception_type(_UNREADABLE),
            reraise=True,
        )
        try:
            items, error = again(_items, client, place), None
        except _UNREADABLE as problem:
            error = f"{type(problem).__name__}: {problem}"
    wall, mono = now()
    return ReadBack("mds", place, items, mono, wall, error)


def _items(client: httpx.Client, place: str) -> list[str]:
    namespace, table = place.split(".")
    answer = client.get(f"/v1/namespaces/{namespace}/tables/{table}")
    if answer.status_code == _NOT_FOUND:
        return []
    answer.raise_for_status()
    return snapshot_ids(answer.json()["metadata"])
