"""The routes of the submission service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lakehouse.serving import ReplicaHeader
from lakehouse.spark.bodies import BadBodyError, read_job
from lakehouse.spark.kubernetes import KubernetesError
from lakehouse.spark.readiness import Readiness
from lakehouse.spark.service import BusyError, Jobs, NameTakenError, NotRunningError, UnknownJobError

_LOG = logging.getLogger(__name__)
# Of requests at a time; each waits for Kubernetes or the object store in its thread.
_THREADS = 8


def _sentence(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status, headers={"Retry-After": "1"} if status == 503 else None)  # noqa: PLR2004 - HTTP's number


# The first that fits counts; None stands for what the error itself says.
_KNOWN: tuple[tuple[type[Exception], int, str | None], ...] = (
    (BadBodyError, 400, None),
    (UnknownJobError, 404, "there is no job of that name"),
    (NameTakenError, 409, "there is a job of that name already"),
    (NotRunningError, 409, "the job has no driver yet that could be ended"),
    (BusyError, 503, "this replica has as many submissions before it as it can end in time"),
    (KubernetesError, 503, None),
    (OSError, 503, "the object store does not answer"),
)


def _answer_to(error: Exception) -> Response:
    for kind, status, message in _KNOWN:
        if isinstance(error, kind):
            if isinstance(error, OSError):
                _LOG.error("the object store failed: %s", error)
            return _sentence(status, message or str(error))
    _LOG.error("a request failed", exc_info=error)
    return _sentence(500, "the service failed; its log says how")


class _Routes:
    """What each route does; everything here runs in a thread and may block."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def submit(self, _: Request, body: bytes) -> Response:
        """Take a job."""
        job = read_job(body)
        self._jobs.take(job)
        return JSONResponse({"id": job.name, "state": "submitted"}, 201)

    def listing(self, _: Request, __: bytes) -> Response:
        """All jobs."""
        return JSONResponse({"jobs": self._jobs.listing()})

    def status(self, request: Request, _: bytes) -> Response:
        """One job."""
        return JSONResponse(self._jobs.status(str(request.path_params["name"])))

    def end(self, request: Request, _: bytes) -> Response:
        """End a job."""
        self._jobs.end(str(request.path_params["name"]))
        return Response(status_code=204)


def create_app(replica: str, jobs: Jobs, readiness: Readiness) -> Starlette:
    """Return the service as an ASGI application."""
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="request")
    routes = _Routes(jobs)

    def answer(serve: Callable[[Request, bytes], Response], request: Request, body: bytes) -> Response:
        try:
            return serve(request, body)
        except Exception as error:  # noqa: BLE001 - a client gets one sentence, whatever happened
            return _answer_to(error)

    def in_thread(serve: Callable[[Request, bytes], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            body = await request.body()
            return await asyncio.get_running_loop().run_in_executor(threads, answer, serve, request, body)

        return endpoint

    async def alive(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(_: Request) -> Response:
        reason = await readiness.reason_not_ready()
        return JSONResponse({"status": reason or "ready"}, 503 if reason else 200)

    async def not_served(_: Request, error: Exception) -> Response:
        return _sentence(error.status_code if isinstance(error, HTTPException) else 500, "there is no such endpoint")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        # a job that was taken is submitted before the replica ends
        await asyncio.get_running_loop().run_in_executor(None, jobs.close)
        readiness.close()
        threads.shutdown(wait=False, cancel_futures=True)

    return Starlette(
        routes=[
            Route("/livez", alive),
            Route("/readyz", ready),
            Route("/v1/jobs", in_thread(routes.listing), methods=["GET"]),
            Route("/v1/jobs", in_thread(routes.submit), methods=["POST"]),
            Route("/v1/jobs/{name}", in_thread(routes.status), methods=["GET"]),
            Route("/v1/jobs/{name}", in_thread(routes.end), methods=["DELETE"]),
        ],
        middleware=[Middleware(ReplicaHeader, header="X-Replica", replica=replica, readiness=readiness)],
        exception_handlers={HTTPException: not_served},
        lifespan=lifespan,
    )
