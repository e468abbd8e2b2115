"""Milvus's gRPC service as this replica offers it: writes by the log, metadata by etcd, reads by its own engine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from pymilvus.grpc_gen import common_pb2, milvus_pb2

from lakehouse.milvus.changes import CHANGING
from lakehouse.milvus.engine import failed
from lakehouse.milvus.etcd import EtcdError
from lakehouse.milvus.log import LogError
from lakehouse.milvus.replica import Behind, Replica
from lakehouse.milvus.segments import SegmentError

_LOG = logging.getLogger(__name__)
_FLUSH_ATTEMPTS = 5
# Of Milvus's time stamps: so many bits count within a millisecond, and one further ahead than a day is refused.
_LOGICAL_BITS = 18
_AHEAD_MAX_S = 86_400
_STILL_ASKED_S = 0.2
_FAILURES = (EtcdError, LogError, Behind, SegmentError)
WRITING = ("Insert", "Upsert", "Delete")
# What is asked of metadata alone. How much of a collection is loaded or indexed depends on its rows.
KNOWING = (
    "HasCollection",
    "DescribeCollection",
    "ShowCollections",
    "HasPartition",
    "ShowPartitions",
    "ListDatabases",
    "DescribeDatabase",
    "DescribeAlias",
    "ListAliases",
)
READING = (
    "Query",
    "Search",
    "HybridSearch",
    "DescribeIndex",
    "GetLoadingProgress",
    "GetLoadState",
    "GetCollectionStatistics",
    "GetPartitionStatistics",
)
# What the engine can do, and would do in one replica alone.
MISSING = (
    "AlterCollection",
    "AlterDatabase",
    "RenameCollection",
    "TruncateCollection",
    "LoadPartitions",
    "ReleasePartitions",
    "ManualCompaction",
)
Handler = Callable[[Any, Any, Any], Message]


class ReplicaServicer(MilvusServicer):  # type: ignore[misc] # the engine's package has no types
    """The service of one replica."""

    def __init__(self, replica: Replica) -> None:
        super().__init__(replica.engine.database)
        self.replica = replica

    def Connect(self, request: Any, context: Any) -> Message:  # noqa: ANN401, N802 - as generated from the protocol
        """Say which replica a connection leads to, beside what the engine says of itself."""
        answer: Any = super().Connect(request, context)
        answer.server_info.reserved["replica"] = self.replica.name
        connected: Message = answer
        return connected

    def Flush(self, _request: Any, _context: Any) -> Message:  # noqa: ANN401, N802 - as generated from the protocol
        """Flush what the log has by now into segments, of every collection."""

        def flush() -> Message:
            self.replica.catch_up()
            for _ in range(_FLUSH_ATTEMPTS):
                if self.replica.flush():
                    done: Message = milvus_pb2.FlushResponse(status=common_pb2.Status(code=0))
                    return done
                _LOG.info("another replica flushed; what it left is looked at again")
            return failed("Flush", "other replicas flush all the time")

        return _answered("Flush", flush)


def _named(request: Any, context: Any) -> Any:  # noqa: ANN401
    """Write the database that a client named beside its request into the request, which is what others see."""
    if "db_name" in request.DESCRIPTOR.fields_by_name and not request.db_name and context is not None:
        request.db_name = dict(context.invocation_metadata()).get("dbname", "")
    return request


def _answered(method: str, do: Callable[[], Message]) -> Message:
    try:
        return do()
    except _FAILURES as error:
        _LOG.warning("%s: %s", method, error)
        return failed(method, str(error))


def _asking(act: Callable[[Replica], Callable[[str, Message], Message]], method: str) -> Handler:
    """Return the handler of a method that the replica itself answers, by the one of its own that `act` picks."""

    def handle(self: ReplicaServicer, request: Any, context: grpc.ServicerContext) -> Message:  # noqa: ANN401
        return _answered(method, lambda: act(self.replica)(method, _named(request, context)))

    return handle


def _reading(method: str) -> Handler:
    def handle(self: ReplicaServicer, request: Any, context: grpc.ServicerContext) -> Message:  # noqa: ANN401
        def read() -> Message:
            _await_guaranteed(request, context)
            # all but those who said that what is there now will do
            if getattr(request, "consistency_level", common_pb2.Strong) != common_pb2.Eventually:
                self.replica.catch_up()
            if problem := self.replica.why_unreadable(_named(request, context)):
                return failed(method, problem)
            answer: Message = getattr(MilvusServicer, method)(self, request, context)
            return answer

        return _answered(method, read)

    return handle


def _await_guaranteed(request: Any, context: grpc.ServicerContext) -> None:  # noqa: ANN401
    """Wait until the time that a search asks to be as new as, as Milvus does; raises Behind where that is too far off.

    Those of the levels of consistency are 0 to 2, or in the past.
    """
    until_s = (getattr(request, "guarantee_timestamp", 0) >> _LOGICAL_BITS) / 1000
    if until_s > time.time() + _AHEAD_MAX_S:
        raise Behind(f"the guaranteed time stamp is more than {_AHEAD_MAX_S} s ahead")
    while (left_s := until_s - time.time()) > 0 and context.is_active():
        time.sleep(min(left_s, _STILL_ASKED_S))


def _missing(method: str) -> Handler:
    def handle(_self: ReplicaServicer, _request: Any, _context: grpc.ServicerContext) -> Message:  # noqa: ANN401
        return failed(method, f"this stand-in for Milvus has no {method}")

    return handle


# one method for each of the protocol's, as the generated base class has them
for _names, _handler in (
    (WRITING, partial(_asking, lambda replica: replica.write)),
    (tuple(CHANGING), partial(_asking, lambda replica: replica.change)),
    (KNOWING, partial(_asking, lambda replica: replica.known)),
    (READING, _reading),
    (MISSING, _missing),
):
    for _name in _names:
        setattr(ReplicaServicer, _name, _handler(_name))
