"""Segments: what the log held of a collection between two offsets, as Parquet files in the object store.

Pages carry checksums, so that bytes which have changed are noticed and not loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import S3FileSystem

_SCHEMA = pa.schema(
    [("offset", pa.int64()), ("revision", pa.int64()), ("method", pa.string()), ("request", pa.binary())]
)


# What the object store's client says where the store is away, and not the object.
_AWAY = ("NETWORK_CONNECTION", "SERVICE_UNAVAILABLE", "SLOW_DOWN", "REQUEST_TIMEOUT", "INTERNAL_FAILURE")


class SegmentError(RuntimeError):
    """A segment cannot be read or written; `away` where that is the store's doing, and may pass."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.away = any(word in message for word in _AWAY)


@dataclass(frozen=True, slots=True)
class Grown:
    """A write in the log: to a collection, by its number, with the metadata of `revision`."""

    offset: int
    revision: int
    collection: int
    method: str
    request: bytes


class SegmentStore:
    """Segments under `root_path` of a bucket, which must be there."""

    def __init__(self, files: S3FileSystem, bucket: str, root_path: str) -> None:
        self._files = files
        self._folder = f"{bucket}/{root_path}/insert_log"

    def write(self, path: str, writes: Sequence[Grown]) -> None:
        """Write a segment; raises SegmentError where the store does not take it."""
        columns = [[getattr(one, name) for one in writes] for name in _SCHEMA.names]
        try:
            with self._files.open_output_stream(f"{self._folder}/{path}") as stream:
                pq.write_table(pa.table(columns, schema=_SCHEMA), stream, write_page_checksum=True)
        except (OSError, pa.ArrowException) as error:
            raise SegmentError(f"segment {path} was not written: {error}") from error

    def read(self, path: str, collection: int) -> list[Grown]:
        """Return the writes of a collection's segment; raises SegmentError where it is gone or damaged."""
        try:
            with self._files.open_input_file(f"{self._folder}/{path}") as file:
                table = pq.read_table(file, columns=_SCHEMA.names, page_checksum_verification=True)
            return [Grown(collection=collection, **row) for row in table.cast(_SCHEMA).to_pylist()]
        except Exception as error:
            # damaged bytes may make anything of Parquet
            raise SegmentError(f"segment {path} cannot be read: {error}") from error

    def remove(self, path: str) -> None:
        """Remove a segment that nobody knows of."""
        try:
            self._files.delete_file(f"{self._folder}/{path}")
        except FileNotFoundError:
            return
        except OSError as error:
            raise SegmentError(f"segment {path} was not removed: {error}") from error
