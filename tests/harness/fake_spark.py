"""A small submission service of Spark on loopback that fails as it is told, for tests of the load."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fake_http import FakeService, served

RESULT = {"sum": 42, "rounds": 3, "rows": 10, "digest": "ab", "failed_tasks": 0}


class FakeSpark(FakeService):
    """Jobs in memory. One runs from its second look on, and completes a task at each."""

    headers = {"X-Replica": "spark-1"}  # noqa: RUF012 - never changed

    def __init__(self) -> None:
        super().__init__()
        # what was submitted, by name; and what the service says of it
        self.submitted: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.deleted: list[str] = []
        # jobs come to their end once they have so many tasks completed
        self.ends_after = 1_000_000
        # so many executors of each job are missing
        self.missing = 0

    def end(self, state: str, *, reason: str | None = None, result: dict[str, Any] | None = None) -> None:
        """Let all jobs end."""
        for job in self.jobs.values():
            job.update(state=state, reason=reason, result=result)

    def respond(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Take a job, tell of one or of all, or forget one."""
        with self.lock:
            status, answer = self._respond(method, path.removeprefix("/v1/jobs").strip("/"), json.loads(body or b"{}"))
            return status, json.dumps(answer).encode()

    def _respond(self, method: str, name: str, body: dict[str, Any]) -> tuple[int, object]:
        if method == "POST":
            if body["name"] in self.jobs:
                return 409, {"error": "exists"}
            self.submitted[body["name"]] = body
            self.jobs[body["name"]] = job = {
                "id": f"id-of-{body['name']}", "state": "submitted", "reason": None, "driver_pod": "d",
                "application_id": None, "progress": None, "result": None,
            }  # fmt: skip
            return 201, job
        if not name:
            return 200, {"jobs": list(self.jobs.values())}
        if name not in self.jobs:
            return 404, {}
        if method == "DELETE":
            self.deleted.append(name)
            return 200, {}
        told = dict(self.jobs[name])
        self._go_on(name)
        return 200, told

    def _go_on(self, name: str) -> None:
        job = self.jobs[name]
        if job["state"] not in ("submitted", "running"):
            return
        completed = job["progress"]["completed_tasks"] + 1 if job["progress"] else 0
        executors = [{"id": "driver", "host": "h0", "active": True}]
        executors += [
            {"id": str(number + 1), "host": f"h{number + 1}", "active": number >= self.missing}
            for number in range(self.submitted[name]["executors"])
        ]
        progress = {"completed_tasks": completed, "active_tasks": 1, "failed_tasks": 0, "executors": executors}
        job.update(state="running", application_id="spark-7", progress=progress)
        if completed >= self.ends_after:
            job.update(state="succeeded", result=RESULT)


@contextmanager
def fake_spark() -> Iterator[tuple[FakeSpark, str]]:
    """Serve a new service on a free port of loopback; yields it and its URL."""
    spark = FakeSpark()
    with served(spark) as url:
        yield spark, url
