"""What a replica is told by its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from lakehouse.environment import SettingsError, number, required

# Threads of a replica without a limit: more than any burst here, and four such replicas (three, and one more during a
# rollout) still fit into the database's 200 connections.
_THREADS_UNLIMITED = 32


@dataclass(frozen=True)
class Settings:
    """Settings of one replica; `max_concurrent_requests` is 0 where there is no limit."""

    database: URL
    warehouse: str
    s3_endpoint: str
    s3_access_key: str
    s3_secret_key: str
    s3_region: str
    max_concurrent_requests: int
    port: int
    drain_s: float
    replica: str

    @property
    def threads(self) -> int:
        """Threads that work on requests: one for each that may be in flight, as a request waits in its thread."""
        return self.max_concurrent_requests or _THREADS_UNLIMITED

    @property
    def on_s3(self) -> bool:
        """Whether the warehouse is in an object store, and not in a local folder as in tests."""
        return self.warehouse.startswith("s3://")


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings that MDS_* and POD_NAME describe; raises SettingsError for one that is missing or wrong."""
    warehouse = required(environment, "MDS_WAREHOUSE").rstrip("/")
    if not warehouse.startswith(("s3://", "file://")):
        raise SettingsError(f"MDS_WAREHOUSE is {warehouse!r}; it is s3://BUCKET/PATH, or file:///FOLDER for tests")
    on_s3 = warehouse.startswith("s3://")
    return Settings(
        database=_database(required(environment, "MDS_DATABASE_URI")),
        warehouse=warehouse,
        s3_endpoint=required(environment, "MDS_S3_ENDPOINT") if on_s3 else "",
        s3_access_key=required(environment, "MDS_S3_ACCESS_KEY") if on_s3 else "",
        s3_secret_key=required(environment, "MDS_S3_SECRET_KEY") if on_s3 else "",
        s3_region=environment.get("MDS_S3_REGION", "us-east-1"),
        max_concurrent_requests=number(environment, "MDS_MAX_CONCURRENT_REQUESTS", "9", at_most=256),
        port=number(environment, "MDS_PORT", "8181", at_most=65535),
        drain_s=float(number(environment, "MDS_DRAIN_SECONDS", "3", at_most=600)),
        replica=required(environment, "POD_NAME"),
    )


def _database(uri: str) -> URL:
    try:
        url = make_url(uri)
    except ArgumentError as error:
        # without the value, which holds a password
        raise SettingsError(
            "MDS_DATABASE_URI cannot be read; it is postgresql+psycopg://USER:PASSWORD@HOST/DB"
        ) from error
    if url.drivername != "postgresql+psycopg":
        raise SettingsError(f"MDS_DATABASE_URI begins with {url.drivername}://; it is postgresql+psycopg://…")
    return url
