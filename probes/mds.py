"""MDS as a client sees it: a real request through the region's load balancer."""

from __future__ import annotations

import httpx

from gameday.session import current

_TIMEOUT_S = 3.0


def serves() -> bool:
    """Tell whether the catalogue answers a listing of its namespaces, which reads its database."""
    try:
        answer = httpx.get(f"{current().endpoints['mds']}/v1/namespaces", timeout=_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK
