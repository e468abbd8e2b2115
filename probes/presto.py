"""Presto as a client sees it: the region's load balancer leads to a coordinator that has workers."""

from __future__ import annotations

import httpx

from gameday.session import current

_TIMEOUT_S = 3.0


def serves() -> bool:
    """Tell whether the coordinator answers and has active workers, without which no query runs."""
    try:
        answer = httpx.get(f"{current().endpoints['presto']}/v1/cluster", timeout=_TIMEOUT_S, trust_env=False)
        return answer.status_code == httpx.codes.OK and int(answer.json()["activeWorkers"]) > 0
    except (httpx.HTTPError, ValueError, KeyError):
        return False
