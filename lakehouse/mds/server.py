"""The server process of a replica, and its way out: first unready, then drained, then gone."""

from __future__ import annotations

import asyncio
import gc
import socket
from types import FrameType

import uvicorn

from lakehouse.mds.app import create_app
from lakehouse.mds.catalogue import MdsCatalog
from lakehouse.mds.readiness import Readiness
from lakehouse.mds.settings import Settings

# What a request may still take after the drain: longer than any of its own time-outs
_FINISH_WITHIN_S = 10
# Longer than clients and load balancers keep an idle connection, so that they close it, and never use one just closed
_KEEP_ALIVE_S = 75


class DrainingServer(uvicorn.Server):
    """On SIGTERM or SIGINT the replica says that it is not ready, serves on for `drain_s` seconds, then ends.

    The load balancer needs that time to notice; a server that closed its port at once would refuse what is still sent.
    """

    def __init__(self, config: uvicorn.Config, readiness: Readiness, drain_s: float) -> None:
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


def serve(settings: Settings) -> None:
    """Serve until a signal, on all addresses of the pod; returns when the last request has been answered."""
    catalogue = MdsCatalog(settings)
    readiness = Readiness(catalogue.engine)
    config = uvicorn.Config(
        create_app(settings, catalogue, readiness),
        host="0.0.0.0",  # noqa: S104 - a pod is reached by its own address
        port=settings.port,
        access_log=False,
        log_level="warning",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_FINISH_WITHIN_S,
    )
    # what was imported stays for ever: collections need not walk through it while requests wait
    gc.freeze()
    DrainingServer(config, readiness, settings.drain_s).run()
