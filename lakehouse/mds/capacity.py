"""What stands before every route: the replica names itself, and refuses what it has no room for."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from lakehouse.mds.errors import error_response

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
