"""The read-back of Milvus, apart from the load: what it was told to keep is asked for by pymilvus as it is."""

from __future__ import annotations

import time
from collections.abc import Iterable

from pymilvus import MilvusClient, MilvusException
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from gameday.records import LedgerEntry, ReadBack
from gameday.timeline import now

_TIMEOUT_S = 10.0
_READ_S = 30.0
_AGAIN_AFTER_S = 0.5
_PARTITIONS = "/partitions"


def read_back_milvus(base_url: str, ledger: Iterable[LedgerEntry], *, deadline_s: float) -> list[ReadBack]:
    """Return the rows found in each collection of the ledger, and the partitions, after as many tries as there is time.

    One that could not be read in `deadline_s` seconds carries an error; a collection that is not there holds nothing.
    """
    end = time.monotonic() + deadline_s
    return [_read(base_url, place, end) for place in sorted({entry.place for entry in ledger})]


def _read(base_url: str, place: str, end: float) -> ReadBack:
    error: str | None = "the deadline passed before it was read"
    items: list[str] = []
    if (left_s := end - time.monotonic()) > 0:
        again = Retrying(
            stop=stop_after_delay(left_s),
            wait=wait_fixed(_AGAIN_AFTER_S),
            retry=retry_if_exception_type(MilvusException),
            reraise=True,
        )
        try:
            items, error = again(_items, base_url, place), None
        except MilvusException as problem:
            error = f"{type(problem).__name__}: {problem.message}"
    wall, mono = now()
    return ReadBack("milvus", place, items, mono, wall, error)


def _items(base_url: str, place: str) -> list[str]:
    client = MilvusClient(base_url, timeout=_TIMEOUT_S)
    collection = place.removesuffix(_PARTITIONS)
    if not client.has_collection(collection, timeout=_TIMEOUT_S):
        return []
    if place.endswith(_PARTITIONS):
        return sorted(client.list_partitions(collection, timeout=_TIMEOUT_S))
    # at once: page by page the engine may give a row twice, and another not at all
    rows = client.query(collection, filter="id >= 0", output_fields=["id"], consistency_level="Strong", timeout=_READ_S)
    return sorted(str(row["id"]) for row in rows)
