"""A small Iceberg REST catalogue on loopback that fails as it is told, for tests of the load."""

from __future__ import annotations

import json
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Failure:
    """What happens to the next request of a method: a status or no answer at all, whether carried out or not."""

    method: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    carried_out: bool = False


class FakeCatalogue:
    """Namespaces and tables in memory, and the failures that are still to come."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Any]] = {}
        self.failures: deque[Failure] = deque()
        self.seen: list[tuple[str, str]] = []
        # cleared, it lets every request wait, as a frozen server does
        self.running = threading.Event()
        self.running.set()
        self._lock = threading.Lock()

    @property
    def snapshots(self) -> set[str]:
        """The identifiers of all snapshots of all tables."""
        return {str(item["snapshot-id"]) for table in self.tables.values() for item in table["snapshots"]}

    def fail(
        self,
        method: str,
        status: int | None = None,
        *,
        times: int = 1,
        headers: dict[str, str] | None = None,
        carried_out: bool = False,
    ) -> None:
        """Let the next `times` requests of a method fail."""
        self.failures.extend(Failure(method, status, headers or {}, carried_out) for _ in range(times))

    def take_failure(self, method: str) -> Failure | None:
        """Return the failure that is meant for a request of this method, if one is next."""
        with self._lock:
            if self.failures and self.failures[0].method == method:
                return self.failures.popleft()
            return None

    def carry_out(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Do what a request asks for and return status and answer."""
        with self._lock:
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


def _handler(catalogue: FakeCatalogue) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _answer(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            catalogue.seen.append((self.command, self.path))
            catalogue.running.wait(30)
            failure = catalogue.take_failure(self.command)
            if failure is None or failure.carried_out:
                status, answer = catalogue.carry_out(self.command, self.path, body)
            if failure is not None:
                status, answer = failure.status or 0, {}
            if not status:
                self.close_connection = True
                return
            content = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {"X-MDS-Replica": "mds-1", **(failure.headers if failure else {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815 - the names that http.server looks for

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # clients that come at once must not wait for the second try of a lost connection request
    request_queue_size = 256


@contextmanager
def fake_catalogue() -> Iterator[tuple[FakeCatalogue, str]]:
    """Serve a new catalogue on a free port of loopback; yields it and its URL."""
    catalogue = FakeCatalogue()
    server = _Server(("127.0.0.1", 0), _handler(catalogue))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield catalogue, f"http://127.0.0.1:{server.server_port}"
    finally:
        catalogue.running.set()
        server.shutdown()
        server.server_close()
        thread.join()
