"""The read-back of Milvus, apart from the load: what it was told to keep is asked for by pymilvus as it is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial

import grpc
from pymilvus import MilvusClient, MilvusException

from gameday.records import LedgerEntry, ReadBack, missing_writes
from loadgen.readback import read_place
from loadgen.schedule import GROWING, SEARCHED

_TIMEOUT_S = 10.0
_READ_S = 30.0
_PARTITIONS = "/partitions"
# Of each collection, and nobody's write.
_ALWAYS_THERE = "_default"


def read_back_milvus(base_url: str, ledger: Iterable[LedgerEntry], *, deadline_s: float) -> list[ReadBack]:
    """Return the rows found in each collection of the ledger, and the partitions, after as many tries as there is time.

    One that could not be read in `deadline_s` seconds carries an error; a collection that is not there holds nothing.
    """
    end = time.monotonic() + deadline_s
    places = sorted({entry.place for entry in ledger})
    # what pymilvus does not put into words of its own, such as an answer that did not come in time, is gRPC's
    again = (MilvusException, grpc.RpcError)
    return [read_place("milvus", place, partial(_items, base_url, place), end, again) for place in places]


def drop_collections(base_url: str, ledger: Sequence[LedgerEntry], found: Sequence[ReadBack]) -> None:
    """Drop the collections of a load, unless something of it could not be read or is missing: that is to be looked at.

    What cannot be dropped stays.
    """
    if missing_writes(ledger, found):
        return
    runs = {one.place.removesuffix(_PARTITIONS).removeprefix(GROWING) for one in found}
    with suppress(MilvusException, grpc.RpcError):
        client = MilvusClient(base_url, timeout=_TIMEOUT_S)
        for name in sorted(f"{kind}{run}" for kind in (GROWING, SEARCHED) for run in runs):
            client.drop_collection(name, timeout=_TIMEOUT_S)


def _items(base_url: str, place: str) -> list[str]:
    client = MilvusClient(base_url, timeout=_TIMEOUT_S)
    collection = place.removesuffix(_PARTITIONS)
    if not client.has_collection(collection, timeout=_TIMEOUT_S):
        return []
    if place.endswith(_PARTITIONS):
        return sorted(set(client.list_partitions(collection, timeout=_TIMEOUT_S)) - {_ALWAYS_THERE})
    # at once: page by page the engine may give a row twice, and another not at all
    rows = client.query(collection, filter="id >= 0", output_fields=["id"], consistency_level="Strong", timeout=_READ_S)
    return sorted(str(row["id"]) for row in rows)
