"""The routes of the Iceberg REST catalogue, and the two of health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import BaseModel, Field
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.typedef import Identifier
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lakehouse.mds.capacity import CapacityLimit
from lakehouse.mds.catalogue import MdsCatalog, NewTable
from lakehouse.mds.errors import UnprocessableError, error_response, response_to
from lakehouse.mds.readiness import Readiness
from lakehouse.mds.settings import Settings
from lakehouse.serving import ReplicaHeader

# How the parts of a namespace are joined in a path, by the specification
_SEPARATOR = "\x1f"
_NAMESPACE = "/v1/namespaces/{namespace}"
_TABLE = _NAMESPACE + "/tables/{table}"


class _NewNamespace(BaseModel):
    namespace: tuple[str, ...] = Field(min_length=1)
    properties: dict[str, str] = Field(default_factory=dict)


class _PropertyChanges(BaseModel):
    removals: set[str] = Field(default_factory=set)
    updates: dict[str, str] = Field(default_factory=dict)


class _TableName(BaseModel):
    namespace: tuple[str, ...] = Field(min_length=1)
    name: str = Field(min_length=1)

    @property
    def identifier(self) -> Identifier:
        return (*self.namespace, self.name)


class _Rename(BaseModel):
    source: _TableName
    destination: _TableName


class _Commit(BaseModel):
    requirements: tuple[TableRequirement, ...] = ()
    updates: tuple[TableUpdate, ...] = ()


@dataclass(frozen=True)
class _Call:
    """One request, as far as the routes need it."""

    request: Request
    body: bytes

    @property
    def namespace(self) -> Identifier:
        return tuple(str(self.request.path_params["namespace"]).split(_SEPARATOR))

    @property
    def table(self) -> Identifier:
        return (*self.namespace, str(self.request.path_params["table"]))


def _table_response(metadata: TableMetadata, location: str | None) -> Response:
    # the metadata is serialised once, by its own model
    place = f'"metadata-location":{JSONResponse(None).render(location).decode()},' if location else ""
    return Response(f'{{{place}"metadata":{metadata.model_dump_json()}}}', media_type="application/json")


class Routes:
    """What each route does with the catalogue; everything here runs in a thread and may block."""

    def __init__(self, catalogue: MdsCatalog, settings: Settings) -> None:
        self._catalogue = catalogue
        self._settings = settings

    def config(self, _: _Call) -> Response:
        """What a client needs to know first: where data files lie (not the keys), and which routes there are."""
        defaults = {}
        if self._settings.on_s3:
            defaults = {"s3.endpoint": self._settings.s3_endpoint, "s3.region": self._settings.s3_region}
        endpoints = [
            f"{method} {path.replace('/v1/', '/v1/{prefix}/', 1)}"
            for method, path, _ in self.table_of_routes()
            if path != "/v1/config"
        ]
        return JSONResponse({"defaults": defaults, "overrides": {}, "endpoints": endpoints})

    def list_namespaces(self, call: _Call) -> Response:
        """The namespaces directly below `parent`, or the topmost."""
        parent = call.request.query_params.get("parent", "")
        found = self._catalogue.list_namespaces(tuple(parent.split(_SEPARATOR)) if parent else ())
        return JSONResponse({"namespaces": sorted(found)})

    def create_namespace(self, call: _Call) -> Response:
        """Create one namespace."""
        new = _NewNamespace.model_validate_json(call.body)
        self._catalogue.create_namespace(new.namespace, new.properties)
        return JSONResponse({"namespace": new.namespace, "properties": new.properties})

    def load_namespace(self, call: _Call) -> Response:
        """The properties of a namespace."""
        properties = self._catalogue.load_namespace_properties(call.namespace)
        return JSONResponse({"namespace": call.namespace, "properties": properties})

    def namespace_exists(self, call: _Call) -> Response:
        """204 where it exists, 404 where not."""
        return Response(status_code=204 if self._catalogue.namespace_exists(call.namespace) else 404)

    def drop_namespace(self, call: _Call) -> Response:
        """Drop an empty namespace."""
        self._catalogue.drop_namespace(call.namespace)
        return Response(status_code=204)

    def update_namespace(self, call: _Call) -> Response:
        """Set and remove properties of a namespace."""
        changes = _PropertyChanges.model_validate_json(call.body)
        if both := changes.removals & changes.updates.keys():
            raise UnprocessableError(f"{min(both)} is to be removed and to be updated")
        summary = self._catalogue.update_namespace_properties(call.namespace, changes.removals, changes.updates)
        return JSONResponse({"removed": summary.removed, "updated": summary.updated, "missing": summary.missing})

    def list_tables(self, call: _Call) -> Response:
        """The names of a namespace's tables."""
        found = sorted(self._catalogue.list_tables(call.namespace))
        return JSONResponse({"identifiers": [{"namespace": name[:-1], "name": name[-1]} for name in found]})

    def create_table(self, call: _Call) -> Response:
        """Create a table, or stage its creation."""
        new = NewTable.model_validate_json(call.body)
        table = self._catalogue.make_table(call.namespace, new)
        return _table_response(table.metadata, None if new.stage_create else table.metadata_location)

    def load_table(self, call: _Call) -> Response:
        """The metadata of a table."""
        table = self._catalogue.load_table(call.table)
        return _table_response(table.metadata, table.metadata_location)

    def table_exists(self, call: _Call) -> Response:
        """204 where it exists, 404 where not."""
        return Response(status_code=204 if self._catalogue.table_exists(call.table) else 404)

    def commit_table(self, call: _Call) -> Response:
        """Commit changes to a table where its requirements are met."""
        commit = _Commit.model_validate_json(call.body)
        done = self._catalogue.commit(call.table, commit.requirements, commit.updates)
        return _table_response(done.metadata, done.metadata_location)

    def drop_table(self, call: _Call) -> Response:
        """Drop a table, with its files where the client asks for that."""
        if call.request.query_params.get("purgeRequested", "").lower() == "true":
            self._catalogue.purge_table(call.table)
        else:
            self._catalogue.drop_table(call.table)
        return Response(status_code=204)

    def rename_table(self, call: _Call) -> Response:
        """Give a table another name, or another namespace."""
        rename = _Rename.model_validate_json(call.body)
        self._catalogue.rename_table(rename.source.identifier, rename.destination.identifier)
        return Response(status_code=204)

    def table_of_routes(self) -> list[tuple[str, str, Callable[[_Call], Response]]]:
        """Every route: method, path, what serves it. HEAD stands before GET, which else would serve it too."""
        return [
            ("GET", "/v1/config", self.config),
            ("GET", "/v1/namespaces", self.list_namespaces),
            ("POST", "/v1/namespaces", self.create_namespace),
            ("HEAD", _NAMESPACE, self.namespace_exists),
            ("GET", _NAMESPACE, self.load_namespace),
            ("DELETE", _NAMESPACE, self.drop_namespace),
            ("POST", f"{_NAMESPACE}/properties", self.update_namespace),
            ("GET", f"{_NAMESPACE}/tables", self.list_tables),
            ("POST", f"{_NAMESPACE}/tables", self.create_table),
            ("HEAD", _TABLE, self.table_exists),
            ("GET", _TABLE, self.load_table),
            ("POST", _TABLE, self.commit_table),
            ("DELETE", _TABLE, self.drop_table),
            ("POST", "/v1/tables/rename", self.rename_table),
        ]


def create_app(settings: Settings, catalogue: MdsCatalog, readiness: Readiness) -> Starlette:
    """Return the service as an ASGI application; it needs no database to be made."""
    threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="request")

    def answer(serve: Callable[[_Call], Response], call: _Call) -> Response:
        catalogue.begin_request()
        try:
            return serve(call)
        except Exception as error:  # noqa: BLE001 - a client gets an error of the specification, whatever happened
            return response_to(error, commit_sent=catalogue.commit_sent)

    def in_thread(serve: Callable[[_Call], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            call = _Call(request, await request.body())
            return await asyncio.get_running_loop().run_in_executor(threads, answer, serve, call)

        return endpoint

    async def alive(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(_: Request) -> Response:
        reason = await readiness.reason_not_ready()
        return JSONResponse({"status": reason or "ready"}, 503 if reason else 200)

    async def not_served(_: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return error_response(status, "NoSuchEndpointException", "there is no such endpoint")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        readiness.close()
        threads.shutdown(wait=False, cancel_futures=True)
        catalogue.close()

    routes = [
        Route(path, in_thread(serve), methods=[method])
        for method, path, serve in Routes(catalogue, settings).table_of_routes()
    ]
    return Starlette(
        routes=[Route("/livez", alive), Route("/readyz", ready), *routes],
        middleware=[
            Middleware(ReplicaHeader, header="X-MDS-Replica", replica=settings.replica, readiness=readiness),
            Middleware(CapacityLimit, limit=settings.max_concurrent_requests),
        ],
        exception_handlers={HTTPException: not_served},
        lifespan=lifespan,
    )
