"""A small Iceberg REST catalogue on loopback that fails as it is told, for tests of the load."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fake_http import FakeService, served


class FakeCatalogue(FakeService):
    """Namespaces and tables in memory."""

    headers = {"X-MDS-Replica": "mds-1"}  # noqa: RUF012 - never changed

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, dict[str, Any]] = {}

    @property
    def snapshots(self) -> set[str]:
        """The identifiers of all snapshots of all tables."""
        return {str(item["snapshot-id"]) for table in self.tables.values() for item in table["snapshots"]}

    def respond(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Do what a request asks for and return status and answer."""
        status, answer = self.carry_out(method, path, json.loads(body or b"{}"))
        return status, json.dumps(answer).encode()

    def carry_out(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Do what a request asks for and return status and answer."""
        with self.lock:
            if path == "/v1/namespaces":
                return 200, {"namespaces": []}
            if method == "POST" and path.endswith("/tables"):
                place = f"{path}/{body['name']}"
                if place in self.tables:
                    return 409, {}
                self.tables[place] = _new_table(place)
                return 200, {"metadata": self.tables[place]}
            if path not in self.tables:
                return 404, {}
            table = self.tables[path]
            if method == "POST":
                if table["current-snapshot-id"] != body["requirements"][1]["snapshot-id"]:
                    return 409, {}
                _commit(table, body["updates"][0]["snapshot"])
            return 200, {"metadata": table}


def _new_table(place: str) -> dict[str, Any]:
    return {
        "table-uuid": str(uuid.uuid4()),
        "location": f"s3://warehouse{place}",
        "current-snapshot-id": None,
        "last-sequence-number": 0,
        "snapshots": [],
    }


def _commit(table: dict[str, Any], snapshot: dict[str, Any]) -> None:
    table["snapshots"].append(snapshot)
    table["current-snapshot-id"] = snapshot["snapshot-id"]
    table["last-sequence-number"] = snapshot["sequence-number"]


@contextmanager
def fake_catalogue() -> Iterator[tuple[FakeCatalogue, str]]:
    """Serve a new catalogue on a free port of loopback; yields it and its URL."""
    catalogue = FakeCatalogue()
    with served(catalogue) as url:
        yield catalogue, url
