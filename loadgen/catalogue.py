"""The bodies of an Iceberg REST catalogue's requests, as its clients send them.

Source: the Iceberg REST catalogue's OpenAPI document (CreateTableRequest, CommitTableRequest, and the updates
add-snapshot and set-snapshot-ref) and the table specification (snapshots).
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

_SCHEMA = {
    "type": "struct",
    "schema-id": 0,
    "fields": [
        {"id": 1, "name": "id", "required": True, "type": "long"},
        {"id": 2, "name": "seen", "required": False, "type": "timestamp"},
        {"id": 3, "name": "payload", "required": False, "type": "string"},
    ],
}


@dataclass
class Table:
    """A table of the load, and what its next commit has to know of it."""

    namespace: str
    name: str
    uuid: str
    location: str
    snapshot: int | None = None
    sequence: int = 0
    snapshots: int = 0
    # whether the above is what the catalogue has, as far as we know; a commit that failed leaves it open
    known: bool = True

    @property
    def path(self) -> str:
        """The path of the table in the catalogue."""
        return f"/v1/namespaces/{self.namespace}/tables/{self.name}"

    @property
    def place(self) -> str:
        """The name by which the ledger knows the table."""
        return f"{self.namespace}.{self.name}"

    def follow(self, metadata: dict[str, Any]) -> None:
        """Take over what the catalogue says of the table."""
        current = metadata.get("current-snapshot-id")
        self.snapshot = None if current in (None, -1) else int(current)
        self.sequence = int(metadata.get("last-sequence-number", 0))
        self.snapshots = len(metadata.get("snapshots") or [])
        self.known = True


def create_body(name: str) -> dict[str, Any]:
    """Return the body of a request that creates a table."""
    return {"name": name, "schema": _SCHEMA, "properties": {"created-by": "load"}}


def table_of(namespace: str, name: str, answer: dict[str, Any]) -> Table:
    """Return the table that a catalogue answered with."""
    metadata = answer["metadata"]
    table = Table(namespace, name, metadata["table-uuid"], metadata["location"])
    table.follow(metadata)
    return table


def new_snapshot_id() -> int:
    """Return a random identifier of a snapshot: positive, 63 bits, as Iceberg's clients make them."""
    return secrets.randbits(62) + 1


def commit_body(table: Table, snapshot: int) -> dict[str, Any]:
    """Return the body of a commit that appends a snapshot, on the condition that nobody else did since.

    Its manifest list is named and not written: a catalogue keeps metadata and does not read it.
    """
    added: dict[str, Any] = {
        "snapshot-id": snapshot,
        "sequence-number": table.sequence + 1,
        "timestamp-ms": time.time_ns() // 1_000_000,
        "manifest-list": f"{table.location}/metadata/snap-{snapshot}.avro",
        "summary": {"operation": "append", "added-records": "1"},
        "schema-id": 0,
    }
    if table.snapshot is not None:
        added["parent-snapshot-id"] = table.snapshot
    return {
        "requirements": [
            {"type": "assert-table-uuid", "uuid": table.uuid},
            {"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": table.snapshot},
        ],
        "updates": [
            {"action": "add-snapshot", "snapshot": added},
            {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": snapshot},
        ],
    }


def snapshot_ids(metadata: dict[str, Any]) -> list[str]:
    """Return the identifiers of all snapshots of a table, as the ledger writes them."""
    return [str(snapshot["snapshot-id"]) for snapshot in metadata.get("snapshots") or []]
