"""The read-back of Milvus, apart from the load: what it was told to keep is asked for by pymilvus as it is."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial

from pymilvus import MilvusClient, MilvusException

from gameday.records import LedgerEntry, ReadBack
from loadgen.readback import read_place

_TIMEOUT_S = 10.0
_READ_S = 30.0
_PARTITIONS = "/partitions"


def read_back_milvus(base_url: str, ledger: Iterable[LedgerEntry], *, deadline_s: float) -> list[ReadBack]:
    """Return the rows found in each collection of the ledger, and the partitions, after as many tries as there is time.

    One that could not be read in `deadline_s` seconds carries an error; a collection that is not there holds nothing.
    """
    end = time.monotonic() + deadline_s
    places = sorted({entry.place for entry in ledger})
    return [read_place("milvus", place, partial(_items, base_url, place), end, (MilvusException,)) for place in places]


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
