"""The server process of a replica, and its way out: first unready, then drained, then gone."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from types import FrameType

import uvicorn

from lakehouse.spark.app import create_app
from lakehouse.spark.kubernetes import Kubernetes
from lakehouse.spark.readiness import Readiness
from lakehouse.spark.service import Jobs
from lakehouse.spark.settings import Settings
from lakehouse.spark.store import open_store
from lakehouse.spark.submission import environment, submit

# What a request may still take after the drain: longer than any of its own time-outs
_FINISH_WITHIN_S = 15
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
    """Serve until a signal, on all addresses of the pod; returns when what was taken has been submitted."""
    kubernetes, store = Kubernetes(settings.namespace), open_store(settings)
    readiness = Readiness(kubernetes, store)
    hand_over = partial(submit, settings=settings, environment=environment())
    config = uvicorn.Config(
        create_app(settings.replica, Jobs(settings, kubernetes, store, hand_over), readiness),
        host="0.0.0.0",  # noqa: S104 - a pod is reached by its own address
        port=settings.port,
        access_log=False,
        log_level="warning",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_FINISH_WITHIN_S,
    )
    DrainingServer(config, readiness, settings.drain_s).run()
