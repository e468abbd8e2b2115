"""The read-back: after the recovery every place of the ledger is read, and what is found there is written down."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import httpx

from gameday.records import LedgerEntry, ReadBack
from gameday.timeline import now
from loadgen.catalogue import snapshot_ids

_AT_ONCE = 4
_TIMEOUT_S = 5.0


def read_back_mds(base_url: str, ledger: Iterable[LedgerEntry], *, deadline_s: float) -> list[ReadBack]:
    """Return the snapshots found in each table of the ledger; one not read in `deadline_s` carries an error."""
    places = sorted({entry.place for entry in ledger})
    end = time.monotonic() + deadline_s
    with httpx.Client(base_url=base_url, timeout=_TIMEOUT_S) as client, ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda place: _read(client, place, end), places))


def _read(client: httpx.Client, place: str, end: float) -> ReadBack:
    namespace, table = place.split(".")
    error: str | None = "the deadline passed before it was read"
    items: list[str] = []
    if time.monotonic() < end:
        try:
            answer = client.get(f"/v1/namespaces/{namespace}/tables/{table}")
            answer.raise_for_status()
            items, error = snapshot_ids(answer.json()["metadata"]), None
        except (httpx.HTTPError, ValueError, KeyError) as problem:
            error = f"{type(problem).__name__}: {problem}"
    wall, mono = now()
    return ReadBack("mds", place, items, mono, wall, error)
