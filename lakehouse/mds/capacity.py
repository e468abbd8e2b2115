"""What stands before every route: the replica names itself, and refuses what it has no room for."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lakehouse.mds.errors import error_response
from lakehouse.mds.readiness import Readiness

# The kubelet and the load balancer ask whether the replica lives; being busy is no reason to call it dead.
HEALTH_PATHS = frozenset({"/livez", "/readyz"})


class CapacityLimit:
    """Refuses at once, with 503, each request beyond `limit` that are in flight; 0 means no limit.

    A queue instead would hide from clients and load balancer that the replica is full, and let latency grow.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http" or scope["path"] in HEALTH_PATHS:
            await self._app(scope, receive, send)
            return
        if self._limit and self._in_flight >= self._limit:
            message = f"this replica serves {self._limit} requests at a time"
            await error_response(503, "SlowDownException", message)(scope, receive, send)
            return
        self._in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight -= 1


class ReplicaHeader:
    """Adds `X-MDS-Replica` to every answer; while draining also `Connection: close`, so that clients go elsewhere."""

    def __init__(self, app: ASGIApp, replica: str, readiness: Readiness) -> None:
        self._app = app
        self._replica = replica
        self._readiness = readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-MDS-Replica"] = self._replica
                if self._readiness.draining:
                    headers["Connection"] = "close"
            await send(message)

        await self._app(scope, receive, send_named)
