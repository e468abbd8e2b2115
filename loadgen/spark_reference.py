"""A job of a load once more, undisturbed, after the recovery: what its result should have been."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from gameday.errors import DeadlinePassed
from gameday.records import WorkloadState, WorkloadStep
from gameday.timeline import now
from gameday.waiting import wait_until
from loadgen.jobs import JOBS, PACED_SUMS, JobWanted, Status, status_of

KIND = "reference"
_TIMEOUT_S = 5.0
_LOOK_S = 1.0
_CONFLICT = 409
_UNREADABLE = (httpx.HTTPError, ValueError)
Write = Callable[[WorkloadStep], None]


def run_reference(
    base_url: str,
    arguments: Mapping[str, Any],
    write: Write,
    *,
    deadline_s: float,
    application: str = PACED_SUMS,
) -> list[WorkloadStep]:
    """Run a job of the same arguments without pauses on one executor, and return its steps, which `write` hears too.

    The last step is `succeeded`, `failed`, or `unfinished` where it did not end in `deadline_s` seconds; requests that
    fail meanwhile are sent again.
    """
    unpaced = {**arguments, "pace_s": 0} if application == PACED_SUMS else dict(arguments)
    wanted = JobWanted(name=KIND, kind=KIND, application=application, executors=1, arguments=unpaced)
    # the service is on this machine: a proxy of the environment is not meant for it
    with httpx.Client(base_url=base_url, timeout=_TIMEOUT_S, trust_env=False) as client:
        run = _Run(client, wanted, wanted.unique_name(), write)
        run.step("submitted")
        try:
            wait_until("the reference job to end", run.look, deadline_s=deadline_s, every_s=_LOOK_S)
        except DeadlinePassed as passed:
            run.step("unfinished", error=str(passed))
            run.cancel()
        return run.steps


@dataclass
class _Run:
    client: httpx.Client
    wanted: JobWanted
    name: str
    write: Write
    steps: list[WorkloadStep] = field(default_factory=list)
    _id: str | None = None
    _accepted: bool = False

    def look(self) -> str | None:
        """Submit the job where it is not, and ask how it is; None once it has ended."""
        try:
            if not self._accepted and not self._submit():
                return None
            answer = self.client.get(f"{JOBS}/{self.name}")
            answer.raise_for_status()
            status = status_of(answer.json())
        except _UNREADABLE as problem:
            return f"{type(problem).__name__}: {problem}"
        if status.step:
            self._heard(status, status.step)
        return None if status.ended else status.state

    def cancel(self) -> None:
        """End the job, where the service lets us."""
        try:
            self.client.delete(f"{JOBS}/{self.name}")
        except httpx.HTTPError:
            return

    def step(self, state: WorkloadState, **rest: Any) -> None:  # noqa: ANN401 - the fields of a step
        """Write a step down."""
        wall, mono = now()
        fields = {"details": {"parameters": self.wanted.parameters}, **rest}
        step = WorkloadStep("spark", self.name, self.wanted.kind, state, mono, wall, self._id, **fields)
        self.write(step)
        self.steps.append(step)

    def _heard(self, status: Status, state: WorkloadState) -> None:
        self.step(state, **status.fields(self.wanted.parameters))

    def _submit(self) -> bool:
        answer = self.client.post(JOBS, json=self.wanted.body(self.name))
        if answer.is_client_error and answer.status_code != _CONFLICT:
            self.step("failed", error=f"HTTP {answer.status_code}: {answer.text[:200]}")
            return False
        # the name is ours alone: who has it already is an earlier try of ours, the answer of which was lost
        if answer.status_code != _CONFLICT:
            answer.raise_for_status()
            self._id = str(answer.json().get("id") or "") or None
        self._accepted = True
        self.step("accepted")
        return True
