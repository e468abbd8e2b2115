"""Notifications of alerts over real HTTP: what is new goes to the timeline, what is malformed is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gameday.alerts import PATH, AlertReceiver
from gameday.engine import gateway_of
from gameday.errors import HarnessError
from gameday.shell import free_port
from gameday.timeline import Event, Timeline, now, read_timeline

pytestmark = pytest.mark.needs("monitoring")

BEGAN = "2026-03-01T10:00:00.25Z"
LABELS = {"alertname": "FormationErrors", "formation": "mds", "severity": "critical"}


class Receiver:
    """A receiver on loopback, and its timeline."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.timeline = Timeline(folder / "timeline.jsonl")
        self._receiver = AlertReceiver(self.timeline)
        self._receiver.start("127.0.0.1", self.port)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=5, trust_env=False)

    def post(self, *alerts: dict[str, Any], **fields: Any) -> httpx.Response:  # noqa: ANN401 - JSON values
        """Send a notification as Alertmanager does."""
        body = {"version": "4", "groupKey": "{}", "status": "firing", "receiver": "harness", "alerts": list(alerts)}
        return self.http.post(PATH, json={**body, **fields})

    def events(self) -> list[Event]:
        """Return what was written."""
        return read_timeline(self.timeline.path)

    def stop(self) -> None:
        """Stop listening."""
        self.http.close()
        self._receiver.stop()
        self.timeline.close()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """Return a receiver that listens."""
    receiver = Receiver(tmp_path)
    yield receiver
    receiver.stop()


def alert(status: str = "firing", began: str = BEGAN, fingerprint: str = "f1", **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
    """Return an alert as Alertmanager sends it; one that fires has an end in the year 1."""
    return {
        "status": status,
        "labels": LABELS,
        "annotations": {"summary": "Of the answers 12% are server errors."},
        "startsAt": began,
        "endsAt": "2026-03-01T10:00:40Z" if status == "resolved" else "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": fingerprint,
        **fields,
    }


def test_an_alert_is_written_down_when_it_fires_and_when_it_is_over(receiver: Receiver) -> None:
    """With its name, labels, sentence and both times; the event's own time is when it was received."""
    _, before = now()
    assert receiver.post(alert()).status_code == 200
    assert receiver.post(alert("resolved")).status_code == 200
    firing, resolved = receiver.events()
    assert (firing.kind, resolved.kind, firing.actor) == ("alert.firing", "alert.resolved", "automatic")
    assert (firing["alert"], firing["labels"]) == ("FormationErrors", LABELS)
    assert firing["summary"] == "Of the answers 12% are server errors."
    assert firing["starts_wall"] == resolved["starts_wall"] == pytest.approx(1772359200.25)
    assert firing["ends_wall"] is None
    assert resolved["ends_wall"] - resolved["starts_wall"] == pytest.approx(39.75)
    assert before <= firing.mono <= resolved.mono <= now()[1]


def test_what_is_known_is_not_written_again(receiver: Receiver) -> None:
    """Alertmanager repeats what lasts, and there are two of it; another beginning, object or state is news."""
    for _ in range(3):
        receiver.post(alert())
    receiver.post(alert(), alert(fingerprint="f2"))
    receiver.post(alert("resolved"), alert("resolved"))
    receiver.post(alert(began="2026-03-01T10:05:00Z"))
    assert [(event.kind, event["fingerprint"]) for event in receiver.events()] == [
        ("alert.firing", "f1"), ("alert.firing", "f2"), ("alert.resolved", "f1"), ("alert.firing", "f1"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[]", "object"),
        (b'{"version": "3", "alerts": []}', "version"),
        (json.dumps({"version": "4", "alerts": [alert("burning")]}).encode(), "alerts.0.status"),
        (json.dumps({"version": "4", "alerts": [alert(), alert(labels={"a": "b"})]}).encode(), "alerts.1.labels"),
        (json.dumps({"version": "4", "alerts": [alert(began="yesterday")]}).encode(), "alerts.0.startsAt"),
        (json.dumps({"version": "4", "alerts": [alert(fingerprint="")]}).encode(), "alerts.0.fingerprint"),
    ],
)
def test_a_malformed_notification_is_refused_and_noted(receiver: Receiver, body: bytes, says: str) -> None:
    """The answer is 400 and says why; the note is no error of the run; nothing of it counts, and the next one does."""
    answer = receiver.http.post(PATH, content=body)
    assert answer.status_code == 400
    assert says in answer.json()["message"]
    (note,) = receiver.events()
    assert note.kind == "alert.unreadable"
    assert says in note["message"]
    assert receiver.post(alert()).status_code == 200
    assert len(receiver.events()) == 2


def test_other_requests_are_refused(receiver: Receiver) -> None:
    """Another path, another method, no length, and more than anybody has to say."""
    assert receiver.http.post("/elsewhere", json={}).status_code == 404
    assert receiver.http.get(PATH).status_code == 501
    assert receiver.http.post(PATH, content=iter([b"{}"])).status_code == 411
    assert receiver.http.post(PATH, content=b" " * (2**20 + 1)).status_code == 413
    assert receiver.events() == []


def test_an_address_that_is_taken_or_nobodys_is_one_sentence(receiver: Receiver) -> None:
    """Where nobody can be notified a run would say that nobody was alerted."""
    other = AlertReceiver(receiver.timeline)
    with pytest.raises(HarnessError, match=f"127.0.0.1:{receiver.port}"):
        other.start("127.0.0.1", receiver.port)
    with pytest.raises(HarnessError, match="notified of alerts"):
        other.start("198.51.100.1", receiver.port)
    other.stop()


@pytest.mark.parametrize(
    ("network", "gateway"),
    [
        ({"IPAM": {"Config": [{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}]}}, "172.18.0.1"),
        ({"IPAM": {"Config": [{"Subnet": "fd00::/64"}, {"Subnet": "172.18.0.0/16"}]}}, "172.18.0.1"),
        ({"subnets": [{"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"}]}, "10.89.0.1"),
    ],
)
def test_the_gateway_of_a_network_is_found(network: dict[str, Any], gateway: str) -> None:
    """As Docker and as Podman describe it."""
    assert gateway_of(network) == gateway


def test_a_network_without_addresses_is_an_error() -> None:
    """It is named."""
    with pytest.raises(HarnessError, match="chaos-east has no IPv4 subnet"):
        gateway_of({"Name": "chaos-east", "IPAM": {"Config": [{"Subnet": "fd00::/64"}]}})
