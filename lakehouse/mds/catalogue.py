"""pyiceberg's SqlCatalog as a service needs it: connections that are pooled, shared, and never waited for in vain."""

from __future__ import annotations

import threading
from functools import lru_cache

from pyarrow.fs import FileSystem
from pydantic import BaseModel, ConfigDict, Field
from pyiceberg.catalog.sql import SqlCatalog, SqlCatalogBaseTable
from pyiceberg.exceptions import CommitFailedException, NoSuchNamespaceError, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableResponse, StagedTable, Table
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortOrder
from pyiceberg.table.update import AssertCreate, TableRequirement, TableUpdate
from pyiceberg.typedef import EMPTY_DICT, Identifier, Properties
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import URL

from lakehouse.mds.settings import Settings

# The same in all replicas: the rows of the catalogue's tables carry it.
_CATALOGUE = "lakehouse"
# A constant of ours, for the one advisory lock that migrations take in the database of MDS.
_MIGRATION_LOCK = 0x6D6473
_CONNECTIONS_KEPT = 9
_CONNECT_TIMEOUT_S = 2
_POOL_TIMEOUT_S = 2.0
_STATEMENT_TIMEOUT_MS = 5000
_SOCKET_TIMEOUT_MS = 5000


class NewTable(BaseModel):
    """What a client asks for when it creates a table: CreateTableRequest of the Iceberg REST specification."""

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(min_length=1)
    location: str | None = None
    table_schema: Schema = Field(alias="schema")
    partition_spec: PartitionSpec | None = Field(default=None, alias="partition-spec")
    write_order: SortOrder | None = Field(default=None, alias="write-order")
    stage_create: bool = Field(default=False, alias="stage-create")
    properties: dict[str, str] = Field(default_factory=dict)


class SharedFileIO(PyArrowFileIO):
    """pyarrow's files, with one client of the object store for the whole process instead of one a table loaded."""

    def __init__(self, properties: Properties = EMPTY_DICT) -> None:
        super().__init__(properties)
        options = tuple(sorted((key, str(value)) for key, value in properties.items() if key.startswith("s3.")))

        def shared(scheme: str, netloc: str | None = None) -> FileSystem:
            return _file_system(scheme, netloc, options)

        self.fs_by_scheme = shared


@lru_cache(maxsize=8)
def _file_system(scheme: str, netloc: str | None, options: tuple[tuple[str, str], ...]) -> FileSystem:
    return PyArrowFileIO(dict(options)).fs_by_scheme(scheme, netloc)


class _NamedTable(Table):
    """A table of which no more than the name is known, which is all that a commit asks of it."""

    def __init__(self, identifier: Identifier) -> None:
        self._identifier = identifier


class MdsCatalog(SqlCatalog):
    """The catalogue of one replica."""

    def __init__(self, settings: Settings) -> None:
        uri = settings.database.render_as_string(hide_password=False)
        super().__init__(_CATALOGUE, uri=uri, warehouse=settings.warehouse, **_storage_properties(settings))
        # SqlCatalog takes no options of the engine, and its own has not connected yet
        self.engine = make_engine(settings.database, settings.threads, settings.replica)
        self._writes = threading.local()
        event.listen(self.engine, "commit", self._note_commit)

    def _init_catalog(self) -> None:
        """Ask nothing of the database, so that a replica starts without it; `migrate` makes tables of this schema."""
        self._schema_version = "v1"

    def _load_file_io(self, properties: Properties = EMPTY_DICT, location: str | None = None) -> FileIO:  # noqa: ARG002 - a table's own properties must not send the service's credentials elsewhere
        return load_file_io(self.properties, location)

    def _note_commit(self, _: object) -> None:
        self._writes.commit_sent = True

    def begin_request(self) -> None:
        """Forget, for this thread, what the request before it wrote."""
        self._writes.commit_sent = False

    @property
    def commit_sent(self) -> bool:
        """Whether this thread sent a COMMIT since `begin_request`: from then on a lost answer leaves it unknown."""
        return bool(getattr(self._writes, "commit_sent", False))

    def make_table(self, namespace: Identifier, new: NewTable) -> Table:
        """Create a table, or only describe it where the client will commit it itself (`stage_create`).

        Raises NoSuchNamespaceError, TableAlreadyExistsError, ValueError where the description is wrong.
        """
        identifier = (*namespace, new.name)
        spec, order = new.partition_spec or UNPARTITIONED_PARTITION_SPEC, new.write_order or UNSORTED_SORT_ORDER
        if not new.stage_create:
            return self.create_table(identifier, new.table_schema, new.location, spec, order, new.properties)
        if not self.namespace_exists(namespace):
            raise NoSuchNamespaceError(f"Namespace does not exist: {'.'.join(namespace)}")
        if self.table_exists(identifier):
            raise TableAlreadyExistsError(f"Table {'.'.join(identifier)} already exists")
        return self._stage(identifier, new, spec, order)

    def _stage(self, identifier: Identifier, new: NewTable, spec: PartitionSpec, order: SortOrder) -> StagedTable:
        return self._create_staged_table(identifier, new.table_schema, new.location, spec, order, new.properties)

    def commit(
        self, identifier: Identifier, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Commit changes to a table by its name.

        Raises NoSuchTableError where the table is not there and is not to be created, CommitFailedException where a
        requirement is not met or another commit was quicker.
        """
        creates = any(isinstance(requirement, AssertCreate) for requirement in requirements)
        missing = NoSuchTableError(f"Table does not exist: {'.'.join(identifier)}")
        if not requirements and not self.table_exists(identifier):
            raise missing
        try:
            return self.commit_table(_NamedTable(identifier), requirements, updates)
        except CommitFailedException:
            # SqlCatalog checks the requirements against nothing where there is no table
            if not creates and not self.table_exists(identifier):
                raise missing from None
            raise


def _storage_properties(settings: Settings) -> dict[str, str]:
    properties = {"py-io-impl": f"{SharedFileIO.__module__}.{SharedFileIO.__name__}"}
    if settings.on_s3:
        properties |= {
            "s3.endpoint": settings.s3_endpoint,
            "s3.access-key-id": settings.s3_access_key,
            "s3.secret-access-key": settings.s3_secret_key,
            "s3.region": settings.s3_region,
            "s3.connect-timeout": "2",
            "s3.request-timeout": "5",
        }
    return properties


def make_engine(database: URL, threads: int, name: str) -> Engine:
    """Return a pool with a connection for each thread and one for the readiness check; it connects when first used.

    A database that is gone fails a request in seconds: a hung host is given up by the socket's own time-outs, a stuck
    statement by the server.
    """
    return create_engine(
        database,
        pool_pre_ping=True,
        pool_size=min(threads, _CONNECTIONS_KEPT) + 1,
        max_overflow=max(threads - _CONNECTIONS_KEPT, 0),
        pool_timeout=_POOL_TIMEOUT_S,
        connect_args={
            "application_name": name,
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "keepalives_idle": 2,
            "keepalives_interval": 1,
            "keepalives_count": 3,
            "options": f"-c statement_timeout={_STATEMENT_TIMEOUT_MS}",
            "tcp_user_timeout": _SOCKET_TIMEOUT_MS,
        },
    )


def migrate(settings: Settings) -> None:
    """Create the catalogue's tables where they are not there; replicas that start together wait for each other.

    Raises sqlalchemy's SQLAlchemyError where the database does not answer.
    """
    engine = make_engine(settings.database, 1, f"{settings.replica}-migrate")
    try:
        with engine.begin() as connection:
            # held until the end of the transaction, which also makes the tables: all of them or none
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            SqlCatalogBaseTable.metadata.create_all(connection)
    finally:
        engine.dispose()
