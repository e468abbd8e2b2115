"""What a client sends to submit a job, checked before anything is done with it."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

LONGEST_NAME = 40
# Who the job is and where it runs is the service's to say; the rest of Spark's properties is the client's.
_NOT_FOR_CLIENTS = ("spark.kubernetes.", "spark.app.", "spark.master", "spark.submit.", "spark.hadoop.fs.s3")
_Zone = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]


class BadBodyError(ValueError):
    """The body is wrong; the message is one sentence for the client."""


class _Strict(BaseModel):
    # a number in quotes, or a name written wrong, is a mistake that is better said than guessed
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class PacedSums(_Strict):
    """Arguments of the job `paced-sums`."""

    rows: int = Field(ge=1, le=100_000_000)
    partitions: int = Field(ge=1, le=1000)
    rounds: int = Field(ge=1, le=1000)
    pace_s: float = Field(ge=0, le=60, allow_inf_nan=False)
    seed: int = Field(ge=0, le=2_147_483_646)

    @model_validator(mode="after")
    def _every_partition_has_a_row(self) -> PacedSums:
        if self.rows < self.partitions:
            raise ValueError(f"{self.rows} rows do not fill {self.partitions} partitions")
        return self


class ReadTable(_Strict):
    """Arguments of the job `read-table`; without a column only rows are counted."""

    table: str = Field(pattern=r"^[^.\x00-\x1f]+(\.[^.\x00-\x1f]+)+$", max_length=256)
    column: str | None = Field(default=None, min_length=1, max_length=128)


class ExecutorZones(_Strict):
    """Zones that executors have to be in, or that they are in where there is room."""

    required: tuple[_Zone, ...] = ()
    preferred: tuple[_Zone, ...] = ()

    @model_validator(mode="after")
    def _one_of_both(self) -> ExecutorZones:
        if bool(self.required) == bool(self.preferred):
            raise ValueError("either zones that are required or zones that are preferred are to be named")
        return self


class Job(_Strict):
    """One job; `arguments` are those of its application, checked as that wants them.

    An application is one of ours by its name, or a PySpark program of the user in the object store by its URL. Such a
    program is called as ours are: with the folder for its result, and its arguments as JSON.
    """

    name: str = Field(pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=LONGEST_NAME)
    application: str = Field(pattern=r"^(paced-sums|read-table|s3a://[A-Za-z0-9._/-]+\.py)$")
    arguments: dict[str, Any]
    executors: int = Field(default=2, ge=1, le=10)
    driver_zones: tuple[_Zone, ...] | None = Field(default=None, min_length=1)
    executor_zones: ExecutorZones | None = None
    conf: dict[str, str] | None = None

    @model_validator(mode="after")
    def _conf_is_for_clients(self) -> Job:
        for name, value in (self.conf or {}).items():
            if not re.fullmatch(r"spark\.[A-Za-z0-9._-]+", name) or name.startswith(_NOT_FOR_CLIENTS):
                raise ValueError(f"{name!r} is no property of Spark that a job may set")
            if not value.isprintable():
                raise ValueError(f"the value of {name} has characters that cannot be printed")
        return self


_ARGUMENTS: dict[str, type[_Strict]] = {"paced-sums": PacedSums, "read-table": ReadTable}


def read_job(body: bytes) -> Job:
    """Return the job that a body describes; raises BadBodyError."""
    try:
        job = Job.model_validate_json(body)
        model = _ARGUMENTS.get(job.application)
        # both kinds of arguments have simple values, so what JSON made of them is what a strict model accepts
        arguments = model.model_validate(job.arguments).model_dump() if model else job.arguments
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadBodyError(f"{where}: {first['msg']}" if where else str(first["msg"])) from error
    return job.model_copy(update={"arguments": arguments})
