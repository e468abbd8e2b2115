"""Notifications of alerts: Alertmanager sends them to the harness while a run is open, and they go to the timeline."""

from __future__ import annotations

import json
import threading
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel

from gameday.errors import HarnessError
from gameday.timeline import Timeline

# Where Alertmanager finds the harness: this port of the gateway of the region's container network.
PORT, PATH = 9099, "/alerts"
_MAX_BYTES = 2**20
_TIMEOUT_S = 5.0


class _Received(BaseModel):
    """A part of a notification, as Alertmanager's webhook has it; fields that nobody reads may come and go."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel)


class Alert(_Received):
    """One alert. `starts_at` is when it began to fire, `ends_at` when it was over; no time while it fires."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: AwareDatetime
    ends_at: AwareDatetime
    fingerprint: Annotated[str, Field(min_length=1)]

    @field_validator("labels")
    @classmethod
    def _named(cls, labels: dict[str, str]) -> dict[str, str]:
        if not labels.get("alertname"):
            raise ValueError("there is no alertname")
        return labels

    @property
    def identity(self) -> tuple[str, datetime, str]:
        """What makes it news: the same is sent again and again while it lasts, and by any Alertmanager of several."""
        return self.fingerprint, self.starts_at, self.status

    def fields(self) -> dict[str, Any]:
        """Return the fields of its event on the timeline; times are in seconds since the epoch."""
        return {
            "alert": self.labels["alertname"],
            "labels": self.labels,
            "summary": self.annotations.get("summary", ""),
            "fingerprint": self.fingerprint,
            "starts_wall": self.starts_at.timestamp(),
            "ends_wall": self.ends_at.timestamp() if self.status == "resolved" else None,
        }


class Notification(_Received):
    """What Alertmanager sends at once: the alerts of one group, those that are over among them."""

    version: Literal["4"]
    alerts: list[Alert]


class AlertReceiver:
    """Receives notifications in threads of its own, from `start` until `stop`, and writes down what is new in them."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._known: set[tuple[str, datetime, str]] = set()
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    def start(self, address: str, port: int = PORT) -> None:
        """Listen at an address of this machine; raises HarnessError where that is not possible."""
        receiver = self

        class Handler(_Handler):
            def receive(self, body: bytes) -> str | None:
                return receiver.receive(body)

        try:
            self._server = _Server((address, port), Handler)
        except OSError as error:
            raise HarnessError(
                f"nobody can be notified of alerts at {address}:{port}: {error.strerror or error}"
            ) from error
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="alerts").start()

    def stop(self) -> None:
        """Stop listening; what is being received is still written down."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    def receive(self, body: bytes) -> str | None:
        """Write down what is new in a notification; returns what is wrong with it, None where nothing."""
        try:
            notification = Notification.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            wrong = f"{where or 'the body'}: {first['msg']}"
            self._timeline.append("alert.unreadable", "harness", message=wrong)
            return wrong
        with self._lock:
            for alert in notification.alerts:
                if alert.identity not in self._known:
                    self._timeline.append(f"alert.{alert.status}", "automatic", **alert.fields())
                    self._known.add(alert.identity)
        return None


class _Server(ThreadingHTTPServer):
    # what is being received when the run ends is waited for, as long as a request may take
    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as socketserver has it
        """Say nothing of clients that break off, which send again."""


class _Handler(BaseHTTPRequestHandler):
    timeout: ClassVar[float] = _TIMEOUT_S

    def receive(self, body: bytes) -> str | None:
        raise NotImplementedError

    def do_POST(self) -> None:
        size = self.headers.get("Content-Length", "")
        if self.path != PATH:
            self._answer(HTTPStatus.NOT_FOUND, f"alerts are received at {PATH}")
        elif not size.isdecimal():
            self._answer(HTTPStatus.LENGTH_REQUIRED, "the length of the body has to be given")
        elif int(size) > _MAX_BYTES:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a notification has at most {_MAX_BYTES} bytes")
        else:
            wrong = self.receive(self.rfile.read(int(size)))
            self._answer(HTTPStatus.BAD_REQUEST if wrong else HTTPStatus.OK, wrong or "received")

    def _answer(self, status: HTTPStatus, message: str) -> None:
        body = json.dumps({"message": message}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:  # noqa: ANN401 - as http.server has it
        """Say nothing: what matters is on the timeline."""
