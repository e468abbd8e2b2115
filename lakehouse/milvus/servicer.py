"""Milvus's gRPC service as this replica offers it: writes by the log, metadata by etcd, reads by its own engine."""

from __future__ import annotations

import logging
from collections.abc import Callable
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
_FAILURES = (EtcdError, LogError, Behind, SegmentError)
WRITING = ("Insert", "Upsert", "Delete")
READING = (
    "HasCollection",
    "DescribeCollection",
    "ShowCollections",
    "Query",
    "Search",
    "HybridSearch",
    "DescribeIndex",
    "GetLoadingProgress",
    "GetLoadState",
    "HasPartition",
    "ShowPartitions",
    "GetCollectionStatistics",
    "GetPartitionStatistics",
    "ListDatabases",
    "DescribeDatabase",
    "DescribeAlias",
    "ListAliases",
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


def _writing(method: str) -> Handler:
    def handle(self: ReplicaServicer, request: Any, context: grpc.ServicerContext) -> Message:  # noqa: ANN401
        return _answered(method, lambda: self.replica.write(method, _named(request, context)))

    return handle


def _changing(method: str) -> Handler:
    def handle(self: ReplicaServicer, request: Any, context: grpc.ServicerContext) -> Message:  # noqa: ANN401
        return _answered(method, lambda: self.replica.change(method, _named(request, context)))

    return handle


def _reading(method: str) -> Handler:
    def handle(self: ReplicaServicer, request: Any, context: grpc.ServicerContext) -> Message:  # noqa: ANN401
        def read() -> Message:
            # all but those who said that what is there now will do
            if getattr(request, "consistency_level", common_pb2.Strong) != common_pb2.Eventually:
                self.replica.catch_up()
            if problem := self.replica.why_unreadable(_named(request, context)):
                return failed(method, problem)
            answer: Message = getattr(MilvusServicer, method)(self, request, context)
            return answer

        return _answered(method, read)

    return handle


def _missing(method: str) -> Handler:
    def handle(_self: ReplicaServicer, _request: Any, _context: grpc.ServicerContext) -> Message:  # noqa: ANN401
        return failed(method, f"this stand-in for Milvus has no {method}")

    return handle


# one method for each of the protocol's, as the generated base class has them
for _names, _handler in ((WRITING, _writing), (tuple(CHANGING), _changing), (READING, _reading), (MISSING, _missing)):
    for _name in _names:
        setattr(ReplicaServicer, _name, _handler(_name))
