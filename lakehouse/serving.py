"""What the services written here have in common as HTTP servers: a way out that clients do not notice, and their name.

It is copied into each service's image, so it imports nothing of ours.
"""

from __future__ import annotations

import asyncio
import socket
from types import FrameType
from typing import Protocol

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Longer than clients and load balancers keep an idle connection, so that they close it, and never use one just closed
_KEEP_ALIVE_S = 75


class Drains(Protocol):
    """Something that says whether a replica is on its way out."""

    draining: bool


class DrainingServer(uvicorn.Server):
    """On SIGTERM or SIGINT the replica says that it is not ready, serves on for `drain_s` seconds, then ends.

    The load balancer needs that time to notice; a server that closed its port at once would refuse what is still sent.
    """

    def __init__(self, config: uvicorn.Config, readiness: Drains, drain_s: float) -> None:
        super().__init__(config)
        self._readiness = readiness
        self._drain_s = drain_s
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal ends the drain."""
        if self._loop is None or self._readiness.draining:
            super().handle_exit(sig, frame)
            return
        self._readiness.draining = True
        self._loop.call_soon_threadsafe(self._loop.call_later, self._drain_s, self._stop)

    def _stop(self) -> None:
        self.should_exit = True


def server_config(app: ASGIApp, port: int, finish_within_s: int) -> uvicorn.Config:
    """Return how a replica listens: on all addresses of its pod; `finish_within_s` is what a request may still take."""
    return uvicorn.Config(
        app,
        host="0.0.0.0",  # noqa: S104 - a pod is reached by its own address
        port=port,
        access_log=False,
        log_level="warning",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=finish_within_s,
    )


class ReplicaHeader:
    """Adds the replica's name to every answer; while draining `Connection: close` too, so that clients go elsewhere."""

    def __init__(self, app: ASGIApp, header: str, replica: str, readiness: Drains) -> None:
        self._app = app
        self._header = header
        self._replica = replica
        self._readiness = readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[self._header] = self._replica
                if self._readiness.draining:
                    headers["Connection"] = "close"
            await send(message)

        await self._app(scope, receive, send_named)
