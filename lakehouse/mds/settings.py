"""What a replica is told by its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

# Threads of a replica without a limit: more than any burst here, and four such replicas (three, and one more during a
# rollout) still fit into the database's 200 connections.
_THREADS_UNLIMITED = 32


class SettingsError(ValueError):
    """The environment is wrong; the message is one sentence for the operator."""


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
    warehouse = _required(environment, "MDS_WAREHOUSE").rstrip("/")
    if not warehouse.startswith(("s3://", "file://")):
        raise SettingsError(f"MDS_WAREHOUSE is {warehouse!r}; it is s3://BUCKET/PATH, or file:///FOLDER for tests")
    on_s3 = warehouse.startswith("s3://")
    return Settings(
        database=_database(_required(environment, "MDS_DATABASE_URI")),
        warehouse=warehouse,
        s3_endpoint=_required(environment, "MDS_S3_ENDPOINT") if on_s3 else "",
        s3_access_key=_required(environment, "MDS_S3_ACCESS_KEY") if on_s3 else "",
        s3_secret_key=_required(environment, "MDS_S3_SECRET_KEY") if on_s3 else "",
        s3_region=environment.get("MDS_S3_REGION", "us-east-1"),
        max_concurrent_requests=_number(environment, "MDS_MAX_CONCURRENT_REQUESTS", "8", at_most=256),
        port=_number(environment, "MDS_PORT", "8181", at_most=65535),
        drain_s=float(_number(environment, "MDS_DRAIN_SECONDS", "3", at_most=600)),
        replica=_required(environment, "POD_NAME"),
    )


def _required(environment: Mapping[str, str], name: str) -> str:
    if value := environment.get(name, "").strip():
        return value
    raise SettingsError(f"{name} is not set")


def _number(environment: Mapping[str, str], name: str, default: str, *, at_most: int) -> int:
    text = environment.get(name, default).strip()
    if not (text.isascii() and text.isdigit()) or int(text) > at_most:
        raise SettingsError(f"{name} is {text!r}; it is a whole number from 0 to {at_most}")
    return int(text)


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
