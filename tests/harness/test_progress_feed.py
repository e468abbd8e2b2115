"""What the display is told from the run folder while the run goes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from gameday.progress import Progress
from gameday.progress_feed import RATE_WINDOW_S, Feed
from gameday.records import Outcome, Recorder, Request
from gameday.timeline import Timeline, now


class _Told(Progress):
    """A display that only remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.last: dict[str, Any] = {}

    def phase(self, name: str) -> None:
        """Remember the phase."""
        self.said.append(name)

    def zones(self, states: Any) -> None:  # noqa: ANN401 - only kept
        """Remember the zones."""
        self.last["zones"] = dict(states)

    def traffic(self, requests_per_s: float, errors_per_s: float) -> None:
        """Remember the rates."""
        self.last["traffic"] = (requests_per_s, errors_per_s)


@pytest.fixture
def told() -> _Told:
    """A display that shows nothing."""
    return _Told()


def test_phases_and_zones_follow_the_timeline(tmp_path: Path, told: _Told) -> None:
    """Each event is told once, and each zone is in the state of its last event."""
    feed, timeline = Feed(tmp_path, told, ("zone-a", "zone-b", "zone-c")), Timeline(tmp_path / "timeline.jsonl")
    feed.tell()
    assert set(told.last["zones"].values()) == {"up"}
    timeline.append("phase.begin", "harness", phase="fault")
    timeline.append("fault.injected", "fault", fault="zone-power-loss", zones=["zone-a", "zone-b"])
    feed.tell()
    timeline.append("fault.healed", "fault", fault="zone-power-loss", zones=["zone-b"])
    feed.tell()
    assert told.last["zones"] == {"zone-a": "lost", "zone-b": "up", "zone-c": "up"}
    assert told.said == ["fault"]


def test_rates_count_what_ended_of_late_in_all_load_processes(tmp_path: Path, told: _Told) -> None:
    """Old requests and unfinished ones do not count; a half-written line is read when it is whole."""
    _, mono = now()
    recorders = [Recorder(tmp_path, name) for name in ("1", "2")]
    outcomes: list[tuple[float, Outcome]] = [(1, "ok"), (2, "error"), (2, "dropped"), (1, "unfinished"), (99, "error")]
    for number, (age_s, outcome) in enumerate(outcomes):
        at = mono - age_s
        recorders[number % 2].request(Request("mds", "x", at, at, at, 0, outcome))
    with (tmp_path / "requests-1.jsonl").open("a") as file:
        file.write('{"ended": ')
        file.flush()
        feed = Feed(tmp_path, told, ())
        feed.tell()
        assert told.last["traffic"] == (3 / RATE_WINDOW_S, 2 / RATE_WINDOW_S)
        file.write(f'{mono}, "outcome": "ok"}}\n')
        file.flush()
        feed.tell()
    assert told.last["traffic"] == (4 / RATE_WINDOW_S, 2 / RATE_WINDOW_S)


def test_before_the_load_no_rate_is_shown(tmp_path: Path, told: _Told) -> None:
    """Nought requests a second would look like an outage."""
    Feed(tmp_path, told, ()).tell()
    assert "traffic" not in told.last


def test_a_broken_file_ends_neither_the_thread_nor_the_run(
    tmp_path: Path, told: _Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be read is left out, and what comes later is told."""
    monkeypatch.setattr("gameday.progress_feed.EVERY_S", 0.01)
    (tmp_path / "timeline.jsonl").write_text("no json\n")
    feed = Feed(tmp_path, told, ("zone-a",))
    feed.start()
    timeline = Timeline(tmp_path / "timeline.jsonl")
    deadline = time.monotonic() + 5
    while "fault" not in told.said and time.monotonic() < deadline:
        timeline.append("phase.begin", "harness", phase="fault")
        time.sleep(0.02)
    feed.stop()
    assert told.said[-1:] == ["fault"]
