"""An HTTP client with the standard retries of an Iceberg REST client, which is what users of a catalogue have.

The rules are those of Iceberg's own Java client since its release 1.11 (class ExponentialHttpRequestRetryStrategy of
org.apache.iceberg.rest, with the changes of its pull requests 13449 and 13619): up to five retries; for every method
after 429, and after a 503 that carries Retry-After; for idempotent methods after 408, 500, 502, 503, 504 and a lost
connection too; never after a refused connection or a time-out. It waits as long as Retry-After says, else one second,
doubled each time up to 64, with a tenth of jitter. Earlier releases repeat a commit after 502 and 504 and so conflict
with themselves.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import gevent
from geventhttpclient import HTTPClient
from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt

from gameday.errors import UsageError

# Iceberg's client sets none and waits for the load balancer, which gives a request to a dead zone up after 3 s; this is
# well beyond that, so that our impatience is never taken for a failure of the service.
ATTEMPT_TIMEOUT_S = 10.0
_RETRIES_MAX = 5
_TOO_MANY_REQUESTS, _UNAVAILABLE = 429, 503
_IDEMPOTENT = ("GET", "HEAD")
_RETRIED_IF_IDEMPOTENT = frozenset({408, 500, 502, 503, 504})
# After these the request may have been carried out (CommitStateUnknownException of Iceberg's ErrorHandlers).
_UNKNOWN_STATUS = frozenset({500, 502, 503, 504})
_BACKOFF_MAX_S = 64.0


@dataclass
class Attempt:
    """How one attempt ended: a status, or what went wrong on the way. `retry_after_s` is what the server asked for.

    lost: the connection was lost under way; refused: there was none, so nothing was sent.
    """

    status: int | None
    body: bytes = b""
    error: str | None = None
    lost: bool = False
    refused: bool = False
    replica: str | None = None
    retry_after_s: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the server carried the request out and said so."""
        return self.status is not None and self.status < 400  # noqa: PLR2004 - HTTP's own border of errors

    @property
    def fate_unknown(self) -> bool:
        """Whether the request may have been carried out all the same."""
        return not self.refused and (self.status is None or self.status in _UNKNOWN_STATUS)


@dataclass
class Answer:
    """The last attempt of a request, and how many there were."""

    last: Attempt
    attempts: int
    errors: list[str] = field(default_factory=list)
    # whether any attempt may have been carried out without our being told
    fate_unknown: bool = False

    def json(self) -> dict[str, Any]:
        """Return the body as JSON; raises ValueError where it is none."""
        body: dict[str, Any] = json.loads(self.last.body)
        return body


class Client:
    """Sends requests to one address; made for greenlets, of which each may send at the same time."""

    def __init__(self, base_url: str, *, retries: int = _RETRIES_MAX, timeout_s: float = ATTEMPT_TIMEOUT_S) -> None:
        """Raise UsageError where `base_url` is no http URL."""
        parts = urlsplit(base_url)
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError(f"the address {base_url!r} is no http:// URL")
        self._retries = retries
        self._timeout_s = timeout_s
        self._http = HTTPClient(
            parts.hostname,
            parts.port or 80,
            connection_timeout=timeout_s,
            network_timeout=timeout_s,
            concurrency=1000,
        )
        # By itself it would repeat an idempotent request on a closing server once more than it has connections, at once
        # and unseen; the pool takes its real size from `concurrency` above.
        self._http._connection_pool.size = -1  # noqa: SLF001 - there is no setting for it

    def request(self, method: str, path: str, body: object = None) -> Answer:
        """Send a request with all its standard retries and return how it ended; never raises for what went wrong."""
        answer = Answer(Attempt(None), 0)

        def send() -> Attempt:
            answer.last = attempt = self._attempt(method, path, body)
            answer.attempts += 1
            answer.fate_unknown |= attempt.fate_unknown
            if not attempt.ok:
                answer.errors.append(attempt.error or f"HTTP {attempt.status}")
            return attempt

        Retrying(
            stop=stop_after_attempt(self._retries + 1),
            retry=retry_if_result(lambda attempt: _retried(method, attempt)),
            wait=_wait_s,
            sleep=gevent.sleep,
            retry_error_callback=lambda _: None,
        )(send)
        return answer

    def _attempt(self, method: str, path: str, body: object) -> Attempt:
        payload = json.dumps(body).encode() if body is not None else b""
        headers = {"Content-Type": "application/json"} if payload else {}
        try:
            # the client's own time-outs are for each read, and a slow answer takes many
            with gevent.Timeout(self._timeout_s):
                response = self._http.request(method, path, body=payload, headers=headers)
                content = bytes(response.read())
        except ConnectionRefusedError:
            return Attempt(None, error="connection refused", refused=True)
        except (TimeoutError, gevent.Timeout):
            return Attempt(None, error="timed out")
        except (OSError, ValueError, HTTPException) as error:
            return Attempt(None, error=f"connection lost ({type(error).__name__})", lost=True)
        retry_after, replica = response.get("retry-after"), response.get("x-mds-replica")
        return Attempt(
            response.status_code,
            content,
            replica=str(replica) if replica else None,
            retry_after_s=float(str(retry_after)) if str(retry_after).isdigit() else None,
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


def _retried(method: str, attempt: Attempt) -> bool:
    if attempt.status == _TOO_MANY_REQUESTS or (attempt.status == _UNAVAILABLE and attempt.retry_after_s is not None):
        return True
    return method in _IDEMPOTENT and (attempt.lost or attempt.status in _RETRIED_IF_IDEMPOTENT)


def _wait_s(state: RetryCallState) -> float:
    attempt: Attempt = state.outcome.result() if state.outcome else Attempt(None)
    if attempt.retry_after_s:
        return attempt.retry_after_s
    delay = min(2.0 ** (state.attempt_number - 1), _BACKOFF_MAX_S)
    return delay * (1 + random.random() / 10)  # noqa: S311 - jitter is no secret
