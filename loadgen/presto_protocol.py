"""The protocol of Presto's clients, without the sending: what is asked, what is answered, what is asked again.

Source of the protocol: Presto's documentation, "Presto Client REST API": a query is POSTed to /v1/statement, `nextUri`
is followed by GET until there is none, `error` tells whether the query failed, a DELETE of `nextUri` ends it.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

STATEMENT = "/v1/statement"
CONSOLE_TABLE = "console.public.saved_queries"
USER_ERROR = "USER_ERROR"
# the parts of Presto's messages that say that a place of ours is not there, rather than that it cannot be reached
_GONE = re.compile(r"\b(Table|Schema) \S+ does not exist", re.IGNORECASE)
_MESSAGE_MAX = 300


@dataclass(frozen=True)
class QueryError:
    """Presto's own words for why a query failed."""

    name: str
    code: int | None
    type: str
    message: str

    def __str__(self) -> str:
        """`NAME (code): message`, cut to a line."""
        message = " ".join(self.message.split())
        return f"{self.name} ({self.code}): {message[:_MESSAGE_MAX]}{'…' if len(message) > _MESSAGE_MAX else ''}"

    @property
    def gone(self) -> bool:
        """Whether the query failed because its table, or the schema of it, is not there."""
        return self.type == USER_ERROR and bool(_GONE.search(self.message))


@dataclass(frozen=True)
class Page:
    """One answer of the protocol; `next_path` is None where it is the last."""

    query_id: str
    next_path: str | None
    error: QueryError | None
    rows: list[list[Any]] = field(default_factory=list)
    stats: dict[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """The state of the query, as a hint: whether it has ended is said by `next_path` and `error`."""
        return str(self.stats.get("state", ""))


def page_of(body: bytes) -> Page:
    """Read an answer; raises ValueError where it is none of Presto's."""
    try:
        answer = json.loads(body)
        error = answer.get("error")
        following = answer.get("nextUri")
        return Page(
            str(answer["id"]),
            path_of(following) if following else None,
            _error_of(error) if error else None,
            answer.get("data") or [],
            answer.get("stats") or {},
        )
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"this is no answer of Presto: {body[:200]!r}") from problem


def path_of(uri: str) -> str:
    """Return the part of a URI that is sent to our own address.

    The coordinator names itself as it was asked, or by its own address, which clients who come by the load balancer do
    not reach: host and port are always those that we were given.
    """
    parts = urlsplit(uri)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def headers(user: str, password: str | None) -> dict[str, str]:
    """Return what each request carries; with a password as HTTP's basic authentication."""
    found = {
        "X-Presto-User": user,
        "X-Presto-Source": "lakehouse-chaos",
        "X-Presto-Catalog": "tpcds",
        "X-Presto-Schema": "tiny",
    }
    if password:
        found["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return found


def _error_of(error: dict[str, Any]) -> QueryError:
    code = error.get("errorCode")
    return QueryError(
        str(error.get("errorName", "UNNAMED")),
        int(code) if code is not None else None,
        str(error.get("errorType", "")),
        str(error.get("message") or "Presto did not say why"),
    )
