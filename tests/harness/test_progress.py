"""The live display: plain lines where there is no terminal, and never a reason for a run to fail."""

from __future__ import annotations

import io
import logging
import sys
import threading
import time

import pytest
from rich.console import Console

from gameday.judge import Verdict
from gameday.progress import LastingConsole, Progress, verdict_table


class _Screen(io.StringIO):
    """A terminal that keeps what was written to it."""

    def isatty(self) -> bool:
        """Say that this is a terminal."""
        return True


class _Broken(io.StringIO):
    """A stream on which nothing can be written any more."""

    def write(self, _: str) -> int:
        """Fail as a closed pipe does."""
        raise BrokenPipeError("nobody reads")


def _plain(line_interval_s: float = 0.2) -> tuple[Progress, io.StringIO]:
    stream = io.StringIO()
    return Progress(LastingConsole(file=stream, width=200), line_interval_s=line_interval_s), stream


def _wait_for(stream: io.StringIO, text: str) -> None:
    deadline = time.monotonic() + 5
    while text not in stream.getvalue():
        assert time.monotonic() < deadline, f"{text!r} was not shown: {stream.getvalue()!r}"
        time.sleep(0.01)


def test_without_a_terminal_a_line_says_phase_wait_traffic_and_zones() -> None:
    """A plain line holds everything that is known, without control sequences."""
    progress, stream = _plain()
    progress.phase("fault")
    progress.awaiting("zone-a to be lost", 30)
    progress.traffic(19.96, 3)
    progress.zones({"zone-b": "up", "zone-a": "lost"})
    with progress:
        _wait_for(stream, "phase fault")
    line = stream.getvalue().splitlines()[0]
    assert (
        "fault · awaiting zone-a to be lost (0 of 30 s) · 20.0 requests/s, 3.0 errors/s · zone-a lost, zone-b up"
        in line
    )
    assert "\x1b" not in line


def test_plain_lines_are_held_back_for_the_interval_and_nothing_said_is_lost() -> None:
    """However much changes, there is one line an interval, and every note is on one of them."""
    progress, stream = _plain(line_interval_s=0.3)
    began = time.monotonic()
    with progress:
        for number in range(40):
            progress.note(f"note-{number};")
            progress.traffic(number, 0)
            time.sleep(0.02)
    lines = stream.getvalue().splitlines()
    assert len(lines) <= (time.monotonic() - began) / 0.3 + 2
    assert all(f"note-{number};" in stream.getvalue() for number in range(40))


def test_nothing_is_written_while_nothing_changes() -> None:
    """The same traffic again is no reason for a line."""
    progress, stream = _plain(line_interval_s=0.05)
    with progress:
        progress.traffic(20, 0)
        _wait_for(stream, "20.0 requests/s")
        for _ in range(10):
            progress.traffic(20, 0)
            time.sleep(0.02)
    assert len(stream.getvalue().splitlines()) == 1


def test_a_phase_ends_the_wait_of_the_one_before() -> None:
    """What was awaited in one phase is not shown in the next."""
    progress, stream = _plain()
    progress.awaiting("something", 5)
    progress.phase("recovery")
    with progress:
        _wait_for(stream, "recovery")
    assert "something" not in stream.getvalue()


def test_on_a_terminal_the_log_goes_above_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that holds stderr writes through the display while it is on, and to its own stream again afterwards."""
    screen = _Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    handler = logging.StreamHandler()
    logger = logging.getLogger("chaostoolkit")
    logger.addHandler(handler)
    try:
        with Progress(LastingConsole(stderr=True, force_terminal=True, width=100)) as progress:
            progress.phase("baseline")
            progress.note("brackets [bold] stay as they are")
            assert handler.stream is not screen
            logger.warning("from the log")
        assert handler.stream is screen
    finally:
        logger.removeHandler(handler)
    assert sys.stderr is screen
    assert "▶ baseline" in screen.getvalue()
    assert "from the log" in screen.getvalue()
    assert "brackets [bold] stay as they are" in screen.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_display_that_cannot_be_drawn_does_not_stop_the_run(*, terminal: bool) -> None:
    """A closed pipe or a broken terminal is the display's trouble, and no method raises."""
    progress = Progress(LastingConsole(file=_Broken(), force_terminal=terminal), line_interval_s=0.01)
    with progress:
        progress.phase("fault")
        progress.note("still here")
        progress.awaiting("healing", 5)
        time.sleep(0.3)
        progress.traffic(1, 1)


def test_many_threads_may_speak_at_once() -> None:
    """Calls from several threads on a live display neither deadlock nor get lost."""
    screen = _Screen()
    progress = Progress(LastingConsole(file=screen, force_terminal=True, width=100))

    def speak(number: int) -> None:
        for turn in range(25):
            progress.note(f"<{number}.{turn}>")
            progress.traffic(number, turn)

    threads = [threading.Thread(target=speak, args=(number,), daemon=True) for number in range(6)]
    with progress:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)
        assert not any(thread.is_alive() for thread in threads)
    assert all(f"<{number}.{turn}>" in screen.getvalue() for number in range(6) for turn in range(25))


def test_starting_and_stopping_twice_is_harmless() -> None:
    """A second start or stop changes nothing, and a display can be started again."""
    progress, stream = _plain()
    progress.stop()
    progress.start()
    progress.start()
    progress.stop()
    progress.stop()
    progress.note("again")
    with progress:
        _wait_for(stream, "again")


def test_the_table_fits_80_columns_and_gives_the_reason_of_what_is_not_held() -> None:
    """Ids and verdicts stay whole, figures wrap, and markup in an error is text."""
    verdicts = [
        Verdict(
            promise="S5.milvus.active-active", verdict="harness error", figure="f" * 90, bound="none",
            reason="[red]a crash[/nothing]", variant="two-zones-one-returns", evidence={},
        ),
        Verdict(
            promise="S5.customer", verdict="held", figure="0 steps", bound="none", reason="not needed", variant="drain",
            evidence={},
        ),
    ]  # fmt: skip
    stream = io.StringIO()
    Console(file=stream, width=80).print(verdict_table(verdicts))
    shown = stream.getvalue()
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "S5.milvus.active-active" in shown
    assert "harness error" in shown
    assert "two-zones-one-returns" in shown
    assert shown.count("f") >= 90
    assert "[red]a crash[/nothing]" in " ".join(shown.split())
    assert "not needed" not in shown


def test_what_is_seen_while_waiting_does_not_restart_the_time_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a wait counts from its begin, however often something else is seen; no deadline is shown as none."""
    progress, stream = _plain()
    progress.awaiting("zone-a", 30, "2 of 3 nodes")
    real = time.monotonic
    monkeypatch.setattr("gameday.progress.time.monotonic", lambda: real() + 12)
    progress.awaiting("zone-a", 0.0, "3 of 3 nodes")
    with progress:
        _wait_for(stream, "awaiting zone-a (12 s): 3 of 3 nodes")
