"""An HTTP client with the standard retries of an engine's own clients, which is what users of the engine have.

The rules of a catalogue's are here: those of Iceberg's own Java client since its release 1.11 (class
ExponentialHttpRequestRetryStrategy of org.apache.iceberg.rest, with the changes of its pull requests 13449 and 13619):
up to five retries; for every method after 429, and after a 503 that carries Retry-After; for idempotent methods after
408, 500, 502, 503, 504 and a lost connection too; never after a refused connection or a time-out. It waits as long as
Retry-After says, else one second, doubled each time up to 64, with a tenth of jitter. Earlier releases repeat a commit
after 502 and 504 and so conflict with themselves.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
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
# The header by which MDS names the pod that answers.
REPLICA_HEADER = "X-MDS-Replica"
_TOO_MANY_REQUESTS, _UNAVAILABLE = 429, 503
_IDEMPOTENT = ("GET", "HEAD")
_RETRIED_IF_IDEMPOTENT = frozenset({408, 500, 502, 503, 504})
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


@dataclass(frozen=True)
class Rules:
    """When a client sends a request again, and what a failed attempt means.

    retried     tells of a method and an attempt that was not ok whether it is sent again
    wait_s      the seconds to wait after the attempt of a number, counted from 1
    unknown     the statuses after which the request may have been carried out all the same
    """

    attempts_max: int
    retried: Callable[[str, Attempt], bool]
    wait_s: Callable[[int, Attempt], float]
    unknown: frozenset[int]

    def fate_unknown(self, attempt: Attempt) -> bool:
        """Tell whether an attempt may have been carried out without our being told."""
        return not attempt.refused and (attempt.status is None or attempt.status in self.unknown)


class Client:
    """Sends requests to one address; made for greenlets, of which each may send at the same time."""

    def __init__(
        self,
        base_url: str,
        *,
        rules: Rules | None = None,
        headers: Mapping[str, str] | None = None,
        replica_header: str = REPLICA_HEADER,
        timeout_s: float = ATTEMPT_TIMEOUT_S,
    ) -> None:
        """Repeat requests by `rules` (else Iceberg's), send `headers` with each; UsageError for what is no http URL."""
        parts = urlsplit(base_url)
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError(f"the address {base_url!r} is no http:// URL")
        self._rules = rules or ICEBERG
        self._headers = dict(headers or {})
        self._replica_header = replica_header
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
        """Send a request with all its standard retries and return how it ended; never raises for what went wrong.

        A body that is no bytes is sent as JSON.
        """
        answer, rules = Answer(Attempt(None), 0), self._rules

        def send() -> Attempt:
            answer.last = attempt = self._attempt(method, path, body)
            answer.attempts += 1
            if not attempt.ok:
                answer.fate_unknown |= rules.fate_unknown(attempt)
                answer.errors.append(attempt.error or f"HTTP {attempt.status}")
            return attempt

        def wait_s(state: RetryCallState) -> float:
            return rules.wait_s(state.attempt_number, answer.last)

        Retrying(
            stop=stop_after_attempt(rules.attempts_max),
            retry=retry_if_result(lambda attempt: not attempt.ok and rules.retried(method, attempt)),
            wait=wait_s,
            sleep=gevent.sleep,
            retry_error_callback=lambda _: None,
        )(send)
        return answer

    def _attempt(self, method: str, path: str, body: object) -> Attempt:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
        headers = {**self._headers, "Content-Type": "application/json"} if payload else self._headers
        # the client's own time-outs are for each read, and a slow answer takes many
        ours = gevent.Timeout(self._timeout_s)
        try:
            with ours:
                response = self._http.request(method, path, body=payload, headers=headers)
                content = bytes(response.read())
        except ConnectionRefusedError:
            return Attempt(None, error="connection refused", refused=True)
        except (TimeoutError, gevent.Timeout) as error:
            if isinstance(error, gevent.Timeout) and error is not ours:
                # the patience of whoever called is at its end, not that of this attempt
                raise
            return Attempt(None, error="timed out")
        except (OSError, ValueError, HTTPException) as error:
            return Attempt(None, error=f"connection lost ({type(error).__name__})", lost=True)
        retry_after, replica = response.get("retry-after"), response.get(self._replica_header.lower())
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


def _wait_s(number: int, attempt: Attempt) -> float:
    if attempt.retry_after_s:
        return attempt.retry_after_s
    delay = min(2.0 ** (number - 1), _BACKOFF_MAX_S)
    return delay * (1 + random.random() / 10)  # noqa: S311 - jitter is no secret


# 500 to 504: CommitStateUnknownException of Iceberg's ErrorHandlers.
ICEBERG = Rules(attempts_max=6, retried=_retried, wait_s=_wait_s, unknown=frozenset({500, 502, 503, 504}))
