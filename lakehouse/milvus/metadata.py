"""What Milvus knows of its collections, in etcd under Milvus's own key layout.

A change of metadata (a collection created, an index dropped, …) is one key, whose value holds the client's request and
the one that takes it back; so the metadata of a revision can be made anew in an empty engine, in the order of KINDS.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lakehouse.milvus.etcd import Etcd, Unchanged, Unsure

DATABASES = "meta/root-coord/database/db-info/"
COLLECTIONS = "meta/root-coord/database/collection-info/"
PARTITIONS = "meta/root-coord/partitions/"
INDEXES = "meta/field-index/"
LOADS = "meta/querycoord-collection-loadinfo/"
ALIASES = "meta/root-coord/aliases/"
SEGMENTS = "meta/datacoord-meta/s/"
CHECKPOINTS = "meta/datacoord-meta/channel-cp/"
# What must be there before what comes after it.
KINDS = (DATABASES, COLLECTIONS, PARTITIONS, INDEXES, LOADS, ALIASES)
# The last number given to anything; a change puts it anew, so that two at once cannot both be carried out.
_NUMBERS = "kv/gid/timestamp"
_META = "meta/"
# Less than every revision.
_NOT_READ = -1


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that is known, `key` without etcd's root; `revision` is that of its last change."""

    key: str
    value: Mapping[str, Any]
    revision: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the log is in segments: messages before `offset` are, with the metadata of `revision`."""

    offset: int
    revision: int
    changed: int = 0


@dataclass(frozen=True)
class Snapshot:
    """All metadata at one revision of etcd; `numbers` is the revision of the last change, and `last` its number.

    `others` are the keys under the same root that are no metadata, such as sessions.
    """

    revision: int = 0
    entries: Mapping[str, Entry] = field(default_factory=dict)
    numbers: int = 0
    last: int = 0
    others: frozenset[str] = frozenset()

    def of_kind(self, kind: str) -> list[Entry]:
        """Return the entries under a prefix of keys, in the order in which they came to be."""
        return sorted((one for one in self.entries.values() if one.key.startswith(kind)), key=lambda one: one.revision)

    @cached_property
    def _numbers(self) -> dict[tuple[str, str], int]:
        return {(one.value["db"], one.value["name"]): int(one.value["id"]) for one in self.of_kind(COLLECTIONS)}

    @cached_property
    def _aliases(self) -> dict[tuple[str, str], str]:
        return {(one.value["db"], one.value["alias"]): str(one.value["name"]) for one in self.of_kind(ALIASES)}

    @cached_property
    def _partitions(self) -> dict[tuple[str, str], Entry]:
        # asked at every write
        own = self.of_kind(PARTITIONS)
        return {(one.key.removeprefix(PARTITIONS).partition("/")[0], str(one.value["name"])): one for one in own}

    def name(self, database: str, name: str) -> str:
        """Return the name of a collection that is called by its name or by an alias."""
        return self._aliases.get((database or "default", name), name)

    def collection(self, database: str, name: str) -> int | None:
        """Return the number of a collection, by its name or an alias."""
        return self._numbers.get((database or "default", self.name(database, name)))

    def partition(self, collection: int, name: str) -> Entry | None:
        """Return a partition of a collection, None for one that every collection has."""
        return self._partitions.get((str(collection), name))

    def after(self, puts: Mapping[str, Mapping[str, Any]], deletes: Sequence[str], revision: int) -> Snapshot:
        """Return it as a change leaves it, made at that revision; 0 for one that was not made, as no metadata has it.

        A key that ends with a slash stands for all under it. What others changed meanwhile is missing, so it is older
        than any that is read.
        """
        kept = {
            key: one
            for key, one in self.entries.items()
            if not any(key == gone or (gone.endswith("/") and key.startswith(gone)) for gone in deletes)
        }
        made = {key: Entry(key, value, revision) for key, value in puts.items()}
        return Snapshot(0, {**kept, **made}, _NOT_READ, self.last + 1, self.others)

    def segments(self, collection: int) -> list[Entry]:
        """Return the segments of a collection, in the order of what is in them."""
        return sorted(self.of_kind(f"{SEGMENTS}{collection}/"), key=lambda one: int(one.value["from"]))

    def checkpoint(self, channel: str) -> Checkpoint | None:
        """Return how far a channel of the log is in segments; None where nothing of it is."""
        found = self.entries.get(CHECKPOINTS + channel)
        if found is None:
            return None
        return Checkpoint(int(found.value["offset"]), int(found.value["revision"]), found.revision)


class Metadata:
    """Reads and changes metadata; `root` is the first part of every key. Raises what `Etcd` does."""

    def __init__(self, etcd: Etcd, root: str) -> None:
        self._etcd = etcd
        self._root = f"{root}/"

    def read(self, revision: int = 0, known: Snapshot | None = None) -> Snapshot:
        """Return the metadata, as it is or as it was at a revision.

        With a `known` one that is older, only what changed since then is sent and parsed: with hundreds of partitions a
        change would cost a reader milliseconds otherwise. Where something was deleted since, all of it is.
        """
        base = known if known is not None and known.revision <= (revision or known.revision) else Snapshot()
        read, whole = self._read_since(base, revision)
        return read if whole else self._read_since(Snapshot(), revision)[0]

    def _read_since(self, base: Snapshot, revision: int) -> tuple[Snapshot, bool]:
        """Return the metadata as it was with what was put since, and whether that is all that happened."""
        seen, pairs, count = self._etcd.changes(self._root, base.revision, revision)
        changed = {pair.key.removeprefix(self._root): pair for pair in pairs}
        entries = {
            key: Entry(key, json.loads(pair.value), pair.revision)
            for key, pair in changed.items()
            if key.startswith(_META)
        }
        entries = {**base.entries, **entries}
        others = base.others | {key for key in changed if not key.startswith(_META)}
        # etcd that was restored from a backup begins anew from what it was then
        whole = len(entries) + len(others) == count and seen >= base.revision
        numbers, last = base.numbers, base.last
        if found := changed.get(_NUMBERS):
            numbers, last = found.revision, int(json.loads(found.value)["last"])
        return Snapshot(revision or seen, entries, numbers, last, others), whole

    def last_change(self) -> int:
        """Return the revision of the last change; 0 where there was none."""
        _, pairs = self._etcd.pairs(self._root + _NUMBERS)
        return pairs[0].revision if pairs else 0

    def change(self, seen: Snapshot, puts: Mapping[str, Mapping[str, Any]], deletes: Sequence[str]) -> int | None:
        """Change metadata if nobody changed any since `seen`; returns etcd's revision, None where somebody did."""
        mark = uuid.uuid4().hex
        numbers = {_NUMBERS: {"last": seen.last + 1, "by": mark}}
        try:
            return self._commit([Unchanged(self._root + _NUMBERS, seen.numbers)], {**puts, **numbers}, deletes)
        except Unsure:
            revision, pairs = self._etcd.pairs(self._root + _NUMBERS)
            happened = bool(pairs) and json.loads(pairs[0].value)["by"] == mark
            return revision if happened else None

    def flushed(
        self, channel: str, before: Checkpoint | None, after: Checkpoint, segments: Mapping[str, Mapping[str, Any]]
    ) -> bool:
        """Write segments and the new checkpoint down if nobody flushed since `before`; False where somebody did.

        Raises EtcdError where nobody can tell: the segments may be known then, and must stay.
        """
        key = CHECKPOINTS + channel
        depends = [Unchanged(self._root + key, before.changed if before else 0)]
        value = {"offset": after.offset, "revision": after.revision}
        try:
            return self._commit(depends, {**segments, key: value}, []) is not None
        except Unsure:
            # another may have flushed on top of it since, so the checkpoint says nothing
            if segments and set(segments) <= set(self.read().entries):
                return True
            raise

    def _commit(
        self, depends: Sequence[Unchanged], puts: Mapping[str, Mapping[str, Any]], deletes: Sequence[str]
    ) -> int | None:
        values = {self._root + key: json.dumps(value).encode() for key, value in puts.items()}
        return self._etcd.commit(depends, values, [self._root + key for key in deletes])


def thing(method: str, request: bytes, undo_method: str, undo: bytes, **known: str | int) -> dict[str, Any]:
    """Return the value of a key: the request that makes something, the one that takes it back, and what is known."""
    return {
        "method": method,
        "request": base64.b64encode(request).decode(),
        "undo_method": undo_method,
        "undo": base64.b64encode(undo).decode(),
        **known,
    }
