"""How far a running job is, by the REST API of its driver."""

from __future__ import annotations

import json
from typing import Any

import urllib3

from lakehouse.spark.states import Driver
from lakehouse.spark.templates import UI_PORT

_TIMEOUT = urllib3.Timeout(total=1.0)
_OK = 200


class Progress:
    """Asks drivers; may block for two seconds."""

    def __init__(self) -> None:
        self._pool = urllib3.PoolManager(maxsize=4, retries=False, timeout=_TIMEOUT)

    def of(self, driver: Driver) -> dict[str, Any] | None:
        """Return counts of tasks and the executors of a job, None where its driver does not answer."""
        if not driver.address or not driver.application:
            return None
        base = f"http://{driver.address}:{UI_PORT}/api/v1/applications/{driver.application}"
        try:
            return summary(self._get(f"{base}/jobs"), self._get(f"{base}/allexecutors"))
        except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError, TypeError):
            return None

    def _get(self, url: str) -> list[dict[str, Any]]:
        answer = self._pool.request("GET", url)
        if answer.status != _OK:
            raise ValueError(f"{url} answers {answer.status}")
        return list(json.loads(answer.data))


def summary(jobs: list[dict[str, Any]], executors: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is told of Spark's jobs, of which a program has many, and executors, as its API has them."""
    return {
        "completed_tasks": sum(int(job["numCompletedTasks"]) for job in jobs),
        "active_tasks": sum(int(job["numActiveTasks"]) for job in jobs),
        "failed_tasks": sum(int(job["numFailedTasks"]) for job in jobs),
        "executors": [
            {"id": item["id"], "host": item["hostPort"].rpartition(":")[0], "active": bool(item["isActive"])}
            for item in executors
            if item["id"] != "driver"
        ],
    }
