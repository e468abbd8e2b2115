"""Spark jobs as the submission service takes them and tells of them, without the sending."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gameday.errors import UsageError
from gameday.records import WorkloadState

JOBS = "/v1/jobs"
PACED_SUMS = "paced-sums"
# How long a job takes is no part of what it computes.
_PACE = "pace_s"
# What the service says of a result that depends on the run and not on the job.
_OF_THE_RUN = frozenset({"failed_tasks"})
_SUFFIX_BYTES = 3
_DRIVER = "driver"


class JobWanted(BaseModel):
    """A job of a load, as the experiment declares it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # with its suffix the 40 characters that the service takes
    name: str = Field(pattern=r"^[a-z]([-a-z0-9]{0,31}[a-z0-9])?$")
    kind: str = "job"
    application: str = PACED_SUMS
    arguments: dict[str, Any]
    executors: int = Field(default=2, ge=1)
    driver_zones: list[str] | None = None
    executor_zones: dict[Literal["required", "preferred"], list[str]] | None = None

    def body(self, name: str) -> dict[str, Any]:
        """Return the body of the request that submits the job under a name."""
        return {
            "name": name,
            "application": self.application,
            "arguments": self.arguments,
            "executors": self.executors,
            "driver_zones": self.driver_zones,
            "executor_zones": self.executor_zones,
            "conf": {},
        }

    @property
    def parameters(self) -> str:
        """The arguments that decide the result, as text that is equal for equal work."""
        return canonical({name: value for name, value in self.arguments.items() if name != _PACE})

    @property
    def zones(self) -> list[str]:
        """The zones that it names."""
        return [*(self.driver_zones or []), *(zone for zones in (self.executor_zones or {}).values() for zone in zones)]

    def unique_name(self) -> str:
        """Return its name with a random suffix: what the service, the steps and the pods know a run of it by."""
        return f"{self.name}-{secrets.token_hex(_SUFFIX_BYTES)}"


def read_jobs(text: str) -> list[JobWanted]:
    """Read a list of jobs: JSON, or `@FILE` with JSON in it; raises UsageError for what is none."""
    try:
        content = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
        jobs = TypeAdapter(list[JobWanted]).validate_json(content)
    except (OSError, ValidationError) as error:
        raise UsageError(f"the jobs of the load are not usable: {' '.join(str(error).split())}") from error
    if not jobs:
        raise UsageError("the load of Spark is asked for an empty list of jobs")
    return jobs


def canonical(value: object) -> str:
    """Return JSON that is the same text for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class Status:
    """What the service says of a job; `executors` are the ids of those that are active, without the driver."""

    state: str
    reason: str | None
    completed_tasks: int
    executors: tuple[str, ...]
    result: str | None
    details: dict[str, Any]

    @property
    def step(self) -> WorkloadState | None:
        """The step in the life of a workload that this is, None for a job that has only been submitted."""
        steps: dict[str, WorkloadState] = {"running": "running", "succeeded": "succeeded", "failed": "failed"}
        return steps.get(self.state)

    @property
    def ended(self) -> bool:
        """Whether the job has ended."""
        return self.step in ("succeeded", "failed")

    def fields(self, parameters: str) -> dict[str, Any]:
        """Return the fields of its WorkloadStep."""
        return {
            "error": (self.reason or "no reason given") if self.state == "failed" else None,
            "result": self.result if self.state == "succeeded" else None,
            "details": {"parameters": parameters, **self.details},
        }


def status_of(answer: object) -> Status:
    """Read what the service says of a job; raises ValueError where it is no such thing."""
    if not isinstance(answer, Mapping) or not isinstance(answer.get("state"), str):
        raise ValueError(f"the service's answer is no job: {str(answer)[:200]}")  # noqa: TRY004 - of JSON, no type of ours
    progress, result = answer.get("progress") or {}, answer.get("result")
    counts = {name: progress[name] for name in ("completed_tasks", "active_tasks", "failed_tasks") if name in progress}
    active = tuple(
        str(one["id"]) for one in progress.get("executors") or [] if one.get("active") and str(one.get("id")) != _DRIVER
    )
    details: dict[str, Any] = dict(counts)
    if progress:
        details |= {"executors": len(active), "executor_ids": list(active)}
    details |= {name: answer[name] for name in ("driver_pod", "application_id", "reason") if answer.get(name)}
    kept = {name: value for name, value in (result or {}).items() if name not in _OF_THE_RUN}
    return Status(
        answer["state"],
        answer.get("reason"),
        int(counts.get("completed_tasks") or 0),
        active,
        canonical(kept) if result is not None else None,
        details,
    )
