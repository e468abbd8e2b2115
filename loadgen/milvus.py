"""What clients of Milvus do: search with known neighbours, insert, query, read metadata, change it, and wait."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle

import gevent
import grpc
import grpc.experimental.gevent
import numpy as np
from pymilvus import MilvusClient, MilvusException
from pymilvus.exceptions import ErrorCode

from gameday.errors import HarnessError
from gameday.records import LedgerState
from gameday.waiting import wait_until
from loadgen.flights import IN_FLIGHT_MAX, Ended, Flights, Notebook
from loadgen.milvus_long import LongSearches
from loadgen.schedule import GROWING, SEARCHED, operation

ENGINE = "milvus"
DIMENSION = 16
# Rows that stay as they are, so that their nearest neighbours are known.
_KNOWN_ROWS = 512
_ASKED = 32
# Recall is a mean: an index may miss a neighbour of one question.
_ASKED_AT_ONCE = 8
_LIMIT = 10
# What the published quick-start expects of an index; below that an answer is wrong.
RECALL_MIN = 0.95
_TIMEOUT_S = 10.0
_PREPARE_TIMEOUT_S = 60.0
# Many clients are on all replicas; one alone would say nothing of any replica but its own. A load balancer gives each
# replica as many connections as the others, so that of seven, used in turn, each of three has two at least; and each
# operation of the cycle, which has eight, comes to all of them.
CONNECTIONS = 7

# Calls wait side by side, as everything of a load does. Each occupies a thread of gevent's pool until it is answered,
# and with the usual ten of them the eleventh would wait for another's answer.
grpc.experimental.gevent.init_gevent()
gevent.get_hub().threadpool.maxsize = 2 * IN_FLIGHT_MAX


@dataclass
class Known:
    """Vectors, questions, and the keys of each question's nearest neighbours by an exact search."""

    vectors: list[list[float]]
    asked: list[list[float]]
    nearest: list[set[int]] = field(default_factory=list)

    @classmethod
    def made(cls, seed: int) -> Known:
        """Return what a seed makes; the same for the same one."""
        source = np.random.default_rng(seed)
        vectors = source.random((_KNOWN_ROWS, DIMENSION), dtype=np.float32)
        asked = source.random((_ASKED, DIMENSION), dtype=np.float32)
        distances = ((asked[:, None] - vectors[None]) ** 2).sum(axis=2)
        nearest = [set(map(int, row)) for row in np.argsort(distances, axis=1)[:, :_LIMIT]]
        return cls(vectors.tolist(), asked.tolist(), nearest)


class MilvusClients:
    """The clients of one Locust user: a collection that is searched, one that grows, and partitions that are added."""

    def __init__(
        self, base_url: str, notebook: Notebook, *, long_searches: int = 9, ready_deadline_s: float = 60.0
    ) -> None:
        """Work in collections of the user's own at `base_url`, and keep so many `long_searches` in flight.

        `notebook` hears of all that is seen.
        """
        self._base_url = base_url
        self._notebook = notebook
        self._flights = Flights(notebook)
        self._long = LongSearches(base_url, notebook, self._flights, long_searches)
        self._ready_deadline_s = ready_deadline_s
        run = secrets.token_hex(4)
        self.searched, self.growing = f"{SEARCHED}{run}", f"{GROWING}{run}"
        self._random = random.Random(run)  # noqa: S311 - which question is asked is no secret
        self._known = Known.made(7)
        self._rows = self._partitions = 0
        self._connected: Iterator[MilvusClient] = iter(())

    @property
    def _client(self) -> MilvusClient:
        """The client whose turn it is."""
        client = next(self._connected, None)
        if client is None:
            raise HarnessError("the load of Milvus was not prepared")
        return client

    def prepare(self) -> None:
        """Make the collections, fill the one that is searched, and wait until the long searches are in flight.

        Raises HarnessError where Milvus does not let us, DeadlinePassed where they are not.
        """
        try:
            # Without a pool of its own a client shares its connection with the others, and when pymilvus connects anew
            # after a refusal, how long gRPC waits until it tries: up to 120 s after many
            # (https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md). After a minute without Milvus it
            # would come back up to a minute after Milvus did, and what is measured is when Milvus did.
            options = {"grpc.use_local_subchannel_pool": 1}
            clients = [
                MilvusClient(self._base_url, timeout=_PREPARE_TIMEOUT_S, grpc_options=options, dedicated=True)
                for _ in range(CONNECTIONS)
            ]
            self._connected = cycle(clients)
            for name in (self.searched, self.growing):
                self._client.create_collection(name, dimension=DIMENSION, metric_type="L2", consistency_level="Strong")
            rows = [{"id": key, "vector": vector} for key, vector in enumerate(self._known.vectors)]
            self._client.insert(self.searched, rows)
            self._client.flush(self.searched)
            ended = self._search()
        except MilvusException as error:
            raise HarnessError(f"the collections of the load were not made: {_told(error)}") from error
        if ended.error:
            raise HarnessError(f"the first search of the load failed: {ended.error}")
        self._long.begin(self.searched, self._known.asked[0])
        wait_until("the long searches to run", self._long.not_running, deadline_s=self._ready_deadline_s, every_s=0.2)

    def arrive(self, number: int, due: float) -> None:
        """Carry out the operation of an arrival that was due at a moment (monotonic seconds)."""
        name = operation(ENGINE, number)
        do: dict[str, Callable[[], Ended]] = {
            "search": self._search,
            "insert": self._insert,
            "query": self._query,
            "describe_collection": self._describe,
            "create_partition": self._create_partition,
        }
        self._flights.spawn(name, due, lambda: _ended(do[name]))

    def finish(self) -> None:
        """End the long searches, wait 5 s for what is in flight, and write down the rest as unfinished."""
        self._flights.finish()

    def _search(self) -> Ended:
        numbers = self._random.sample(range(_ASKED), _ASKED_AT_ONCE)
        asked = [self._known.asked[number] for number in numbers]
        found = self._client.search(self.searched, data=asked, limit=_LIMIT, timeout=_TIMEOUT_S)
        pairs = zip(found, (self._known.nearest[number] for number in numbers), strict=True)
        recall = sum(len({hit["id"] for hit in hits} & nearest) for hits, nearest in pairs) / _LIMIT / len(numbers)
        return Ended(None if recall >= RECALL_MIN else f"wrong result: recall {recall:.2f}")

    def _query(self) -> Ended:
        key = self._random.randrange(_KNOWN_ROWS)
        found = self._client.query(self.searched, ids=[key], output_fields=["id"], timeout=_TIMEOUT_S)
        keys = [row["id"] for row in found]
        return Ended(None if keys == [key] else f"wrong result: {keys} instead of [{key}]")

    def _describe(self) -> Ended:
        seen = self._client.describe_collection(self.searched, timeout=_TIMEOUT_S)
        return Ended(None if seen["collection_name"] == self.searched else f"wrong result: {str(seen)[:100]}")

    def _insert(self) -> Ended:
        self._rows += 1
        key = self._rows
        row = {"id": key, "vector": [self._random.random() for _ in range(DIMENSION)]}
        return self._write(self.growing, str(key), lambda: self._client.insert(self.growing, [row], timeout=_TIMEOUT_S))

    def _create_partition(self) -> Ended:
        self._partitions += 1
        name = f"p{self._partitions}"

        def create() -> object:
            return self._client.create_partition(self.growing, name, timeout=_TIMEOUT_S)

        return self._write(f"{self.growing}/partitions", name, create)

    def _write(self, place: str, item: str, do: Callable[[], object]) -> Ended:
        state: LedgerState = "unknown"
        self._notebook.ledger(place, item, "attempted")
        try:
            do()
            state = "acknowledged"
        finally:
            self._notebook.ledger(place, item, state)
        return Ended()


def _ended(do: Callable[[], Ended]) -> Ended:
    try:
        return do()
    except MilvusException as error:
        return Ended(_told(error))
    except grpc.RpcError as error:
        # what pymilvus does not put into words of its own, such as an answer that did not come in time
        return Ended(f"{error.code().name}: {' '.join(str(error.details()).split())[:200]}")


def _told(error: MilvusException) -> str:
    name = ErrorCode(error.code).name if error.code in set(ErrorCode) else f"code {error.code}"
    return f"{name}: {' '.join(str(error.message).split())[:200]}"
