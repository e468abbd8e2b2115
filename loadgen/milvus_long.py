"""Long searches of clients of Milvus: each wants to see what is written until a moment that is still to come.

Milvus lets such a search wait until then, so it is in flight at hardly any cost. Each client has a connection of its
own and sends a search once: a retry by the client would hide that it failed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from urllib.parse import urlsplit

import gevent
import grpc
from pymilvus.client.prepare import Prepare
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc

from gameday.records import WorkloadState
from loadgen.flights import Flights, Notebook

KIND = "long_search"
# How far ahead the moment is, and how much longer than that a client waits for its answer.
# The patience is longer than a search may take to fail by the contract, or one that nobody fails would seem to.
_WAIT_S, PATIENCE_S = 20.0, 70.0
# gRPC has no word for a search that was taken. One that a connected server will not take it refuses at once.
_TAKEN_AFTER_S = 1.0
_AGAIN_AFTER_S = 1.0
_CONNECT_S = 5.0
_LIMIT = 10
# Of Milvus's time stamps so many bits count within a millisecond (pymilvus.client.utils.LOGICAL_BITS).
_LOGICAL_BITS = 18
# gRPC would share one connection among all channels of a process that lead to the same address.
_OPTIONS = [("grpc.use_local_subchannel_pool", 1)]


class LongSearches:
    """So many searches that are kept in flight, each on its own connection and followed by the next."""

    def __init__(self, base_url: str, notebook: Notebook, flights: Flights, count: int) -> None:
        """Work in the background of `flights`, which ends it."""
        self._address = urlsplit(base_url).netloc
        self._notebook = notebook
        self._flights = flights
        self._count = count
        self._running: set[int] = set()
        self._seen = "none was sent"
        self._token = secrets.token_hex(3)

    def begin(self, collection: str, vector: Sequence[float]) -> None:
        """Send the searches, for the nearest neighbours of a vector in a collection."""

        def made(wait_s: float) -> milvus_pb2.SearchRequest:
            until_ms = int((time.time() + wait_s) * 1000)
            return Prepare.search_requests_with_expr(
                collection, "vector", {"metric_type": "L2"}, _LIMIT, [list(vector)], use_default_consistency=False,
                consistency_level=common_pb2.ConsistencyLevel.Customized, guarantee_timestamp=until_ms << _LOGICAL_BITS,
            )  # fmt: skip

        for client in range(self._count):
            self._flights.work(partial(self._keep, client, made))

    def not_running(self) -> str | None:
        """Return None once all are in flight, else what was seen of the latest."""
        return None if len(self._running) == self._count else f"{len(self._running)} of {self._count}: {self._seen}"

    def _keep(self, client: int, made: Callable[[float], milvus_pb2.SearchRequest]) -> None:
        turn = 0
        # the first ones end one after the other, so that most are in the middle of their time at any moment
        wait_s = _TAKEN_AFTER_S + _WAIT_S * (client + 1) / self._count
        while True:
            with grpc.insecure_channel(self._address, options=_OPTIONS) as channel:
                stub = milvus_pb2_grpc.MilvusServiceStub(channel)
                failed = False
                while not failed:
                    turn += 1
                    failed = not self._search(client, f"search-{self._token}-{client}-{turn}", stub, made(wait_s))
                    wait_s = _WAIT_S
            gevent.sleep(_AGAIN_AFTER_S)

    def _search(
        self,
        client: int,
        name: str,
        stub: milvus_pb2_grpc.MilvusServiceStub,
        request: milvus_pb2.SearchRequest,
    ) -> bool:
        """Send one search and write down how it ends; tells whether it succeeded."""
        details: dict[str, object] = {}

        def write(state: WorkloadState, error: str | None = None, code: int | None = None) -> None:
            self._notebook.step(name, KIND, state, error=error, error_code=code, details=details)

        write("submitted")
        try:
            info = stub.Connect(Prepare.register_request("", ""), timeout=_CONNECT_S).server_info
            details["replica"] = info.reserved.get("replica")
            flight = gevent.spawn(stub.Search, request, timeout=_WAIT_S + PATIENCE_S)
            flight.join(_TAKEN_AFTER_S)
            if not flight.ready():
                write("accepted")
                self._running.add(client)
            answer = flight.get()
        except grpc.RpcError as error:
            self._seen = f"{error.code().name}: {' '.join(str(error.details()).split())[:200]}"
            write("failed", self._seen, int(error.code().value[0]))
            return False
        except gevent.GreenletExit:
            write("unfinished")
            raise
        problem = _problem(answer)
        self._seen = problem or "it ended"
        write("failed" if problem else "succeeded", problem, answer.status.code or None)
        return problem is None


def _problem(answer: milvus_pb2.SearchResults) -> str | None:
    if answer.status.code or answer.status.error_code:
        return str(answer.status.reason)[:200] or f"code {answer.status.code}"
    found = len(answer.results.ids.int_id.data)
    return None if found == _LIMIT else f"wrong result: {found} neighbours instead of {_LIMIT}"
