"""How a job keeps its result, and what Spark counted while it ran."""

from __future__ import annotations

import json
import urllib.request
from typing import Any
from urllib.parse import urlsplit

# also on a busy machine: the driver has nothing else to do then
_TIMEOUT_S = 20.0


def write(spark: Any, output: str, result: dict[str, Any]) -> None:  # noqa: ANN401 - PySpark is in the image alone
    """Write a result as one line of JSON by Spark's own writer; its `_SUCCESS` beside it says that it is whole."""
    spark.createDataFrame([(json.dumps(result),)], "value string").coalesce(1).write.mode("overwrite").text(output)


def failed_tasks(context: Any) -> int | None:  # noqa: ANN401 - PySpark is in the image alone
    """Return how many attempts of tasks failed so far, by the driver's own REST API; None where it does not say."""
    if not context.uiWebUrl:
        return None
    port = urlsplit(context.uiWebUrl).port
    url = f"http://127.0.0.1:{port}/api/v1/applications/{context.applicationId}/jobs"
    try:
        # without a proxy of the environment: it is this very pod
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=_TIMEOUT_S) as answer:
            return sum(int(job["numFailedTasks"]) for job in json.load(answer))
    except (OSError, ValueError, KeyError):
        return None
