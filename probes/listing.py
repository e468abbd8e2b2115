"""Whether an engine that speaks HTTP answers a read as its clients ask for it."""

from __future__ import annotations

import httpx

from gameday.session import current

_TIMEOUT_S = 3.0


def listed(engine: str, path: str) -> bool:
    """Tell whether a GET of `path` is answered with 200 within 3 s, through the region's load balancer."""
    try:
        answer = httpx.get(f"{current().endpoints[engine]}{path}", timeout=_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK
