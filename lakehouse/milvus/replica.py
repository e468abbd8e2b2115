"""One replica: it applies the log to its engine, in the log's order, and everything it answers follows from that.

A write goes into the log first and is answered when this replica has applied it. A change of metadata is rehearsed in
an engine without rows, committed to etcd, and marked in the log, so that it has one place among the writes. What is
asked of metadata alone is answered by that engine, as etcd has it: Milvus's coordinator needs no log for that either,
so it goes on while the log has no leader. What a replica holds can be made again from etcd, the object store and the
log, which is what it does when it begins.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from typing import Any

from google.protobuf.message import Message
from pymilvus.grpc_gen import common_pb2

from lakehouse.milvus.changes import Refused, change_of, is_made, prepared
from lakehouse.milvus.engine import Engine, failed, refusal, request_of
from lakehouse.milvus.etcd import EtcdError, UnknownRevision
from lakehouse.milvus.log import Log, LogError, Record
from lakehouse.milvus.metadata import COLLECTIONS, SEGMENTS, Checkpoint, Metadata, Snapshot
from lakehouse.milvus.segments import Grown, SegmentError, SegmentStore
from lakehouse.milvus.settings import Settings

_LOG = logging.getLogger(__name__)
_CATCH_UP_DEADLINE_S = 8.0
_CHANGE_ATTEMPTS = 20
_LOOK_S = 0.05
# For an object store that is away while a replica begins.
_STORE_PATIENCE_S = 60.0
# Of the segments of a collection, whatever partition their rows are in; Milvus's number for all of them.
_ALL_PARTITIONS = "-1"


class Behind(RuntimeError):
    """The replica has not applied what it must have applied to answer."""


class Replica:
    """The state of one replica; `recover` before `follow`, which is the only one to write to the engine."""

    def __init__(self, settings: Settings, metadata: Metadata, log: Log, store: SegmentStore) -> None:
        self._settings = settings
        self._metadata = metadata
        self._log = log
        self._store = store
        self.engine = Engine(settings.data / "engine")
        # collections of which a segment could not be read, and why
        self.unreadable: dict[int, str] = {}
        # as etcd had the metadata last, and an engine whose own is that or what a change made of it
        self._known = Snapshot()
        self._rehearsal = Engine(settings.data / "rehearsal")
        self._rehearsing = threading.Lock()
        self._flushing = threading.Lock()
        self._applied = threading.Condition()
        self._position = 0
        self._growing: list[Grown] = []
        self._waiting: dict[str, Future[Message]] = {}
        self._patient_until = 0.0

    @property
    def name(self) -> str:
        """The replica's own name: that of its pod."""
        return self._settings.replica

    # --- from etcd, object store and log to an engine ---

    def recover(self) -> None:
        """Make the engine's state of the last checkpoint anew."""
        now = self._metadata.read()
        checkpoint = now.checkpoint(self._settings.channel)
        if checkpoint is None:
            return
        self._patient_until = time.monotonic() + _STORE_PATIENCE_S
        self.engine.reconcile(self._at(checkpoint.revision))
        for collection in (int(one.value["id"]) for one in self.engine.snapshot.of_kind(COLLECTIONS)):
            for segment in now.segments(collection):
                self._load(collection, str(segment.value["path"]))
        self._position = checkpoint.offset

    def _load(self, collection: int, path: str) -> None:
        while True:
            try:
                writes = self._store.read(path, collection)
            except SegmentError as error:
                _LOG.error("collection %d: %s", collection, error)
                if error.away and time.monotonic() < self._patient_until:
                    time.sleep(1.0)
                    continue
                self.unreadable[collection] = str(error)
                return
            for one in writes:
                self.engine.write(one)
            return

    def follow(self) -> None:
        """Apply the log, from where the checkpoint was, for ever; raises LogError where the log has a hole."""
        for record in self._log.read(self._position):
            if record is not None:
                self._apply(record)

    def _apply(self, record: Record) -> None:
        if record.revision > self.engine.snapshot.revision:
            self.engine.reconcile(self._at(record.revision))
        answer = self._written(record) if record.method else None
        with self._applied:
            self._position = record.offset + 1
            self._applied.notify_all()
        waiting = self._waiting.pop(record.token, None)
        if waiting is not None and answer is not None:
            waiting.set_result(answer)

    def _written(self, record: Record) -> Message:
        request: Any = request_of(record.method, record.request)
        snapshot = self.engine.snapshot
        collection = snapshot.collection(request.db_name, request.collection_name)
        if collection is None:
            return failed(record.method, f"there is no collection {request.collection_name!r}")
        # an alias may be another's when the segment is read
        request.collection_name = snapshot.name(request.db_name, request.collection_name)
        written = request.SerializeToString()
        grown = Grown(record.offset, snapshot.revision, collection, record.method, written)
        with self._applied:
            self._growing.append(grown)
        return self.engine.write(grown)

    def _at(self, revision: int) -> Snapshot:
        """Return the metadata of a revision, however long etcd takes; the newest where etcd no longer has that one."""
        while True:
            try:
                return self._metadata.read(revision, self.engine.snapshot)
            except UnknownRevision as error:
                _LOG.warning("metadata of revision %d: %s; the newest is taken", revision, error)
                revision = 0
            except EtcdError as error:
                _LOG.warning("waiting for the metadata of revision %d: %s", revision, error)

    # --- what clients ask for ---

    def why_unreadable(self, request: Any) -> str | None:  # noqa: ANN401 - any request of the service
        """Return why the collection that a request is about cannot be read, None where it can."""
        name = getattr(request, "collection_name", "")
        collection = self.engine.snapshot.collection(request.db_name, name) if name else None
        return None if collection is None else self.unreadable.get(collection)

    def begin(self) -> None:
        """Apply all that is in the log by now, however long that takes."""
        while True:
            try:
                self.catch_up()
            except (Behind, LogError) as error:
                _LOG.info("not ready yet: %s", error)
            else:
                return

    def catch_up(self) -> None:
        """Apply all that is in the log by now; raises Behind or LogError where that takes too long."""
        end = self._log.end()
        with self._applied:
            if not self._applied.wait_for(lambda: self._position >= end, _CATCH_UP_DEADLINE_S):
                raise Behind(f"this replica is {end - self._position} messages behind the log")

    def write(self, method: str, request: Message) -> Message:
        """Put a write into the log and return the engine's answer; raises LogError or Behind where that is unsure."""
        token = uuid.uuid4().hex
        waiting = self._waiting[token] = Future()
        try:
            self._log.append(method, request.SerializeToString(), self.engine.snapshot.revision, token)
            return waiting.result(_CATCH_UP_DEADLINE_S)
        except NotInTime:
            raise Behind("the write is in the log, and this replica has not applied it yet") from None
        finally:
            self._waiting.pop(token, None)

    def change(self, method: str, request: Message) -> Message:
        """Change metadata and return the engine's answer; raises EtcdError, LogError or Behind where it is unsure."""
        with self._rehearsing:
            for _ in range(_CHANGE_ATTEMPTS):
                seen = self._known = self._metadata.read(known=self._known)
                try:
                    answer, revision = self._changed(method, prepared(method, request, seen), seen)
                except Refused as error:
                    return failed(method, str(error))
                if revision is not None:
                    break
                if refusal(answer):
                    return answer
            else:
                return failed(method, "metadata is changed by others all the time")
        self.mark(revision)
        return answer

    def known(self, method: str, request: Message) -> Message:
        """Return an engine's answer to what is asked of metadata alone, as etcd has it now; raises EtcdError."""
        # before the lock: while etcd does not answer, all who ask find that out side by side
        last = self._metadata.last_change()
        # Whoever changes metadata waits for etcd under the lock, and with other replicas at it for several times. Who
        # asks need not wait behind that where the log has brought all that etcd had when it was asked.
        while not self._rehearsing.acquire(timeout=_LOOK_S):
            if self.engine.snapshot.numbers >= last:
                return self.engine.call(method, request)
        try:
            if self._rehearsal.snapshot.numbers < last:
                self._known = self._metadata.read(known=self._known)
                self._rehearsal.reconcile(self._known)
            return self._rehearsal.call(method, request)
        finally:
            self._rehearsing.release()

    def _changed(self, method: str, request: Message, seen: Snapshot) -> tuple[Message, int | None]:
        """Rehearse a change and commit it; without a revision the engine refused it, or somebody else was quicker."""
        if is_made(method, request, seen):
            return common_pb2.Status(), seen.revision
        self._rehearsal.reconcile(seen)
        answer = self._rehearsal.call(method, request)
        if refusal(answer):
            return answer, None
        puts, deletes = change_of(method, request, seen)
        revision: int | None = None
        try:
            revision = self._metadata.change(seen, puts, deletes)
        finally:
            # One that was not made is taken back with the next look at etcd. An engine made anew for it would take
            # longer the more partitions there are, and meanwhile another replica would be quicker once more.
            self._rehearsal.snapshot = seen.after(puts, deletes, revision or 0)
        return answer, revision

    def mark(self, revision: int) -> None:
        """Give the metadata of a revision its place in the log, and apply it."""
        self._log.append("", b"", revision, "")
        with self._applied:
            if not self._applied.wait_for(lambda: self.engine.snapshot.revision >= revision, _CATCH_UP_DEADLINE_S):
                raise Behind("the metadata was changed, and this replica has not applied it yet")

    # --- what is done in the background ---

    def flush(self) -> bool:
        """Write what is in no segment yet into segments; False where another replica did so in between.

        Raises EtcdError and SegmentError.
        """
        with self._flushing:
            # first: the metadata that is read after it has every collection of what it covers
            with self._applied:
                after = Checkpoint(self._position, self.engine.snapshot.revision)
            now = self._metadata.read(known=self.engine.snapshot)
            before = now.checkpoint(self._settings.channel)
            flushed = before.offset if before else 0
            with self._applied:
                self._growing = [one for one in self._growing if one.offset >= flushed]
                grown = [one for one in self._growing if one.offset < after.offset]
            if flushed >= after.offset:
                return True
            written = self._write_segments(now, grown, (flushed, after.offset))
            done = self._metadata.flushed(self._settings.channel, before, after, written)
            if not done:
                for value in written.values():
                    self._store.remove(str(value["path"]))
            return done

    def _write_segments(self, now: Snapshot, grown: list[Grown], span: tuple[int, int]) -> dict[str, dict[str, Any]]:
        there = {int(one.value["id"]) for one in now.of_kind(COLLECTIONS)}
        written: dict[str, dict[str, Any]] = {}
        for collection in sorted({one.collection for one in grown} & there):
            own = [one for one in grown if one.collection == collection]
            number = f"{span[0]}-{uuid.uuid4().hex[:8]}"
            path = f"{collection}/{_ALL_PARTITIONS}/{number}"
            self._store.write(path, own)
            key = f"{SEGMENTS}{collection}/{_ALL_PARTITIONS}/{number}"
            written[key] = {"from": span[0], "to": span[1], "path": path, "writes": len(own), "state": "Flushed"}
        return written

    def tend(self) -> None:
        """Flush every so often, and mark changes of metadata whose replica ended before it could; never returns."""
        flush_at, unmarked = time.monotonic() + self._settings.flush_every_s, 0
        while True:
            time.sleep(1.0)
            try:
                last = self._metadata.last_change()
                if last > self.engine.snapshot.revision and last == unmarked:
                    self.mark(last)
                unmarked = last
                if time.monotonic() >= flush_at:
                    self.flush()
                    flush_at = time.monotonic() + self._settings.flush_every_s
            except (EtcdError, LogError, SegmentError, Behind) as error:
                _LOG.warning("will be tried again: %s", error)
