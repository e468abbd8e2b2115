"""What the object store keeps of each job, below `spark/jobs/NAME`: files that are written once.

job.json        what was asked for
accepted.json   Kubernetes has the driver's pod
refused.json    Spark's submission failed, and why
output/         the result, written by the job; whole where `_SUCCESS` is there
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pyarrow import fs

from lakehouse.spark.settings import Settings
from lakehouse.spark.states import Record

JOB, ACCEPTED, REFUSED = "job.json", "accepted.json", "refused.json"
_OUTPUT, _COMPLETE = "output/", "output/_SUCCESS"
_CONNECT_TIMEOUT_S, _REQUEST_TIMEOUT_S = 2, 5


class Store:
    """The bucket; every call may block for some seconds, and raises OSError where the store does not answer."""

    def __init__(self, files: fs.FileSystem, bucket: str) -> None:
        self._files = files
        self._bucket = bucket
        self._jobs = f"{bucket}/spark/jobs"

    def check(self) -> None:
        """Raise OSError where the bucket cannot be reached."""
        if self._files.get_file_info(self._bucket).type == fs.FileType.NotFound:
            raise FileNotFoundError(f"there is no bucket {self._bucket}")

    def prepare(self) -> None:
        """Make the folder of event logs, for Spark does not begin without it; a bucket has folders where files are."""
        self._write(f"{self._bucket}/spark/events/.keep", b"")

    def put(self, job: str, file: str, content: Mapping[str, Any]) -> None:
        """Write one of a job's files."""
        self._write(f"{self._jobs}/{job}/{file}", json.dumps(content).encode())

    def get(self, job: str, file: str) -> dict[str, Any] | None:
        """Return the content of one of a job's files, None where it is not there."""
        try:
            return dict(json.loads(self._read(f"{self._jobs}/{job}/{file}")))
        except FileNotFoundError:
            return None

    def record(self, job: str) -> Record | None:
        """Return what there is of a job, None where the name is unknown."""
        return self._records(f"{self._jobs}/{job}").get(job)

    def records(self) -> dict[str, Record]:
        """Return what there is of all jobs, by name."""
        return self._records(self._jobs)

    def result(self, job: str) -> dict[str, Any] | None:
        """Return the result that a job wrote, None where it is not whole."""
        parts = sorted(self._list(f"{self._jobs}/{job}/output"))
        if f"{self._jobs}/{job}/{_COMPLETE}" not in parts:
            return None
        text = b"".join(self._read(path) for path in parts if path.rpartition("/")[2].startswith("part-"))
        return dict(json.loads(text)) if text.strip() else None

    def _records(self, folder: str) -> dict[str, Record]:
        times: dict[str, dict[str, float]] = {}
        for path, written_at in self._list(folder).items():
            job, _, file = path.removeprefix(f"{self._jobs}/").partition("/")
            times.setdefault(job, {})[file] = written_at
        return {job: _record(files) for job, files in times.items() if JOB in files}

    def _list(self, folder: str) -> dict[str, float]:
        found: Iterable[fs.FileInfo] = self._files.get_file_info(
            fs.FileSelector(folder, recursive=True, allow_not_found=True)
        )
        return {info.path: info.mtime.timestamp() if info.mtime else 0.0 for info in found if info.is_file}

    def _read(self, path: str) -> bytes:
        with self._files.open_input_stream(path) as stream:
            return bytes(stream.read())

    def _write(self, path: str, data: bytes) -> None:
        with self._files.open_output_stream(path) as stream:
            stream.write(data)


def _record(files: Mapping[str, float]) -> Record:
    return Record(files[JOB], ACCEPTED in files, REFUSED in files, _COMPLETE in files)


def open_store(settings: Settings) -> Store:
    """Return the bucket that the settings name; nothing is asked of it yet."""
    scheme, _, address = settings.s3_endpoint.rpartition("://")
    files = fs.S3FileSystem(
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        endpoint_override=address,
        scheme=scheme or "http",
        region=settings.s3_region,
        connect_timeout=_CONNECT_TIMEOUT_S,
        request_timeout=_REQUEST_TIMEOUT_S,
        # one more try: a client waits for the answer
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2),
    )
    return Store(files, settings.bucket)
