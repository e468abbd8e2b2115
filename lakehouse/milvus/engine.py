"""The engine of milvus-lite in one replica: brought to a state of metadata, and written to by one message at a time.

What it holds follows from the messages and from the metadata that each came with, so that all replicas hold the same.
"""

from __future__ import annotations

import base64
import logging
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from milvus_lite.exceptions import MilvusLiteError
from pymilvus.grpc_gen import common_pb2, milvus_pb2

from lakehouse.milvus.metadata import COLLECTIONS, INDEXES, KINDS, LOADS, PARTITIONS, Entry, Snapshot
from lakehouse.milvus.segments import Grown

_LOG = logging.getLogger(__name__)
# A write has at most so many rows, as a power of two.
_KEYS_OF_A_WRITE = 20
_METHODS = milvus_pb2.DESCRIPTOR.services_by_name["MilvusService"].methods_by_name


class Engine:
    """One engine in a folder of its own, which is emptied first. Only one thread may write to it."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.database = MilvusLite(str(folder))
        self._servicer = MilvusServicer(self.database)
        self.snapshot = Snapshot()

    def call(self, method: str, request: Message) -> Message:
        """Carry a request out, and return the engine's answer to it."""
        answer: Message = getattr(self._servicer, method)(request, None)
        return answer

    def write(self, write: Grown) -> Message:
        """Carry a write out that is in the log.

        Keys that the engine gives itself follow from the write's offset, so that they are the same in every replica.
        """
        request: Any = request_of(write.method, write.request)
        partition = self.snapshot.partition(write.collection, request.partition_name)
        if partition is not None and partition.revision > write.revision:
            return failed(write.method, f"the partition {request.partition_name!r} was dropped since")
        if write.method == "Insert":
            try:
                found = self.database.get_collection(
                    request.collection_name, database_name=request.db_name or "default"
                )
            except MilvusLiteError as error:
                return failed(write.method, str(error))
            found._next_auto_id = (write.offset + 1) << _KEYS_OF_A_WRITE  # noqa: SLF001 - the engine has no option for it
        return self.call(write.method, request)

    def reconcile(self, wanted: Snapshot) -> None:
        """Bring the engine to what the metadata says: what is gone or another is taken back, what is new is made."""
        have, want = self.snapshot.entries, wanted.entries
        released = self._take_back({one.key for one in have.values() if not _same(one, want.get(one.key))})
        for kind in KINDS:
            for one in wanted.of_kind(kind):
                if not _same(one, have.get(one.key)):
                    self._do(one, "method", "request")
        for one in wanted.of_kind(COLLECTIONS):
            # the engine begins with a collection as loaded, Milvus does not
            loaded = want.get(f"{LOADS}{one.value['id']}")
            if loaded is None:
                self._release(one.value["db"], one.value["name"])
            elif str(one.value["id"]) in released:
                self._do(loaded, "method", "request")
        self.snapshot = wanted

    def _take_back(self, gone: Collection[str]) -> set[str]:
        """Undo what made the entries of these keys; returns the numbers of the collections that had to be released."""
        dropped = {str(one.value["id"]) for one in self.snapshot.of_kind(COLLECTIONS) if one.key in gone}
        released: set[str] = set()
        for kind in reversed(KINDS):
            for one in reversed(self.snapshot.of_kind(kind)):
                if one.key not in gone:
                    continue
                collection = one.key.removeprefix(kind).partition("/")[0]
                # partitions go with their collection: one by one, hundreds of them kept a disk busy for ten seconds
                if kind == PARTITIONS and collection in dropped:
                    continue
                if kind == INDEXES:
                    # the engine takes a collection as loaded when it has its index, and keeps that of a loaded one
                    index: Any = request_of(one.value["undo_method"], base64.b64decode(one.value["undo"]))
                    self._release(index.db_name, index.collection_name)
                    released.add(collection)
                self._do(one, "undo_method", "undo")
        return released

    def _release(self, database: str, collection: str) -> None:
        names = {"db_name": database, "collection_name": collection}
        self.call("ReleaseCollection", milvus_pb2.ReleaseCollectionRequest(**names))

    def _do(self, entry: Entry, method: str, request: str) -> None:
        name = str(entry.value[method])
        answer = self.call(name, request_of(name, base64.b64decode(entry.value[request])))
        # what belonged to a collection went with it
        if problem := refusal(answer):
            _LOG.info("%s of %s: %s", name, entry.key, problem)

    def close(self) -> None:
        """Close the engine."""
        self.database.close()


def _same(one: Entry, another: Entry | None) -> bool:
    """Tell whether nothing of an entry was changed since."""
    return another is not None and another.revision == one.revision


def request_of(method: str, data: bytes) -> Message:
    """Return the request of a method from its bytes."""
    request: Message = GetMessageClass(_METHODS[method].input_type)()
    request.ParseFromString(data)
    return request


def refusal(answer: Any) -> str | None:  # noqa: ANN401 - any answer of the service, which has a status or is one
    """Return why an answer is no success, None where it is one."""
    status = answer if isinstance(answer, common_pb2.Status) else answer.status
    return (status.reason or f"code {status.code}") if status.code or status.error_code else None


def failed(method: str, reason: str) -> Message:
    """Return the answer of a method which says that it failed, as the engine's own do."""
    status = common_pb2.Status(code=1, error_code=common_pb2.UnexpectedError, reason=reason)
    kind = GetMessageClass(_METHODS[method].output_type)
    return status if kind is common_pb2.Status else kind(status=status)
