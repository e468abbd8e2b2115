"""The provider's services of a region, as what takes and reads backups reaches them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyarrow.fs import AwsStandardS3RetryStrategy, FileInfo, FileSelector, S3FileSystem

from gameday.engine import Container, Engine
from gameday.errors import HarnessError
from gameday.regions import Region
from lakehouse.provider import OBJECT_STORE_PORT, REGION_OF_STORE, Keys

BACKUP_STORE = "backup-store"
OBJECT_STORE = "object-store"

_CONNECT_S, _REQUEST_S, _ATTEMPTS = 2, 10, 3


@dataclass(frozen=True)
class RegionStores:
    """Both object stores of a region, and the containers of its services, by their names without the region's."""

    region: Region
    engine: Engine

    def name_of(self, service: str) -> str:
        """Return the name of the container of a service."""
        return f"{self.region.cluster}-{service}"

    def found(self, service: str) -> Container | None:
        """Return the container of a service that runs; None where it does not."""
        for container in self.region.services(self.engine):
            if container.name == self.name_of(service) and container.running:
                return container
        return None

    def running(self, service: str) -> Container:
        """Return the container of a service; raises HarnessError where it does not run."""
        container = self.found(service)
        if container is None:
            raise HarnessError(f"{self.name_of(service)} does not run: `chaos lakehouse up` starts it")
        return container

    def keys(self) -> Keys:
        """Return the keys of both stores."""
        kept = self.region.credentials()
        return Keys(kept["object_store_key"], kept["object_store_secret"])

    def files(self, service: str) -> S3FileSystem:
        """Return a store as a file system; raises HarnessError where it does not run."""
        address = self.running(service).address
        # after that: of a region that is none no keys are made
        keys = self.keys()
        return S3FileSystem(
            access_key=keys.access,
            secret_key=keys.secret,
            endpoint_override=f"http://{address}:{OBJECT_STORE_PORT}",
            region=REGION_OF_STORE,
            connect_timeout=_CONNECT_S,
            request_timeout=_REQUEST_S,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        )


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Make a HarnessError of what a store answers while something is read from it."""
    try:
        yield
    except OSError as error:
        raise HarnessError(f"{what} cannot be read: {' '.join(str(error).split())[:300]}") from error


def objects_under(files: S3FileSystem, prefix: str) -> dict[str, FileInfo]:
    """Return all objects below a prefix, by their names there; none where there is no such prefix."""
    with reading(prefix):
        found = files.get_file_info(FileSelector(prefix, recursive=True, allow_not_found=True))
    return {item.path.removeprefix(f"{prefix}/"): item for item in found if item.is_file}


def content_of(files: S3FileSystem, path: str) -> bytes:
    """Return an object whole; raises HarnessError where it cannot be read."""
    with reading(path), files.open_input_stream(path, compression=None) as stream:
        content: bytes = stream.read()
    return content
