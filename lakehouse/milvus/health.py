"""The health page: it searches, through the same door as every client."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.client.types import LoadState

PATH = "/healthz"
_TIMEOUT_S = 3.0
# Several ask, each twice a second: one look answers all who asked meanwhile, and for so long after.
_FRESH_S = 1.0
# As long as who asks waits for: looks that nobody waits for any more would only be in the way.
_BUSY_S = 2.0
_VECTORS = (DataType.FLOAT_VECTOR,)


class Health:
    """Tells whether the replica at a port of this machine serves, by a search in one of its loaded collections."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"
        self._client: MilvusClient | None = None
        self._turn = 0
        # the vectors of each collection that was searched: their field and how long they are
        self._fields: dict[str, tuple[str, int]] = {}
        self._looked = -_FRESH_S
        self._problem: str | None = None
        self._lock = threading.Lock()

    def problem(self) -> str | None:
        """Return why the replica does not serve, None where it does, as it was a second ago at most."""
        if not self._lock.acquire(timeout=_BUSY_S):
            return "an earlier look has not ended"
        try:
            if time.monotonic() - self._looked >= _FRESH_S:
                self._problem = self._look()
                self._looked = time.monotonic()
            return self._problem
        finally:
            self._lock.release()

    def _look(self) -> str | None:
        """Search in one collection; they take turns."""
        try:
            self._client = self._client or MilvusClient(self._address, timeout=_TIMEOUT_S)
            names = sorted(self._client.list_collections(timeout=_TIMEOUT_S))
            self._fields = {name: field for name, field in self._fields.items() if name in names}
            if names:
                self._turn += 1
                self._search(self._client, names[self._turn % len(names)])
        except Exception as error:  # noqa: BLE001 - whatever keeps a client from searching is the answer
            self._client = None
            return " ".join(str(error).split())[:300] or type(error).__name__
        return None

    def _search(self, client: MilvusClient, name: str) -> None:
        """Search in a collection; one that cannot be searched is no problem where it is not loaded, or another now."""
        if name in self._fields:
            with suppress(MilvusException):
                return self._ask(client, name)
        if client.get_load_state(name, timeout=_TIMEOUT_S)["state"] != LoadState.Loaded:
            return None
        fields: list[dict[str, Any]] = client.describe_collection(name, timeout=_TIMEOUT_S)["fields"]
        vector = next((field for field in fields if field["type"] in _VECTORS), None)
        if vector is not None:
            self._fields[name] = (vector["name"], int(vector["params"]["dim"]))
            self._ask(client, name)
        return None

    def _ask(self, client: MilvusClient, name: str) -> None:
        field, dimension = self._fields[name]
        client.search(name, data=[[0.0] * dimension], anns_field=field, limit=1, timeout=_TIMEOUT_S)


def serve_health(health: Health, port: int) -> ThreadingHTTPServer:
    """Answer GET /healthz with 200 or 503 and the reason, in a thread, on all addresses; returns the server."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            problem = health.problem() if self.path == PATH else "there is only " + PATH
            body = (problem or "ok").encode()
            # who asked may have gone meanwhile
            with suppress(ConnectionError):
                self.send_response(200 if problem is None else 503)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:  # noqa: ANN401 - as the base class has it
            """Say nothing of each look."""

    server = ThreadingHTTPServer(("", port), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
