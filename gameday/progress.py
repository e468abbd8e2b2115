"""What a run shows on the terminal while it goes on, and the table of promises at its end.

The display only shows: it has no say in the run, and a failure in it is logged and goes no further. It writes to
stderr, so that machine output keeps stdout for itself. On a terminal it is a few lines that are redrawn, with Chaos
Toolkit's log scrolling above them; anywhere else (a file, a pipe, CI) it is plain lines, written when something has
changed and at most one in `LINE_INTERVAL_S`.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Concatenate, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from gameday.judge import Verdict

LINE_INTERVAL_S = 5.0
REDRAWS_PER_S = 4.0
STYLES = {"held": "bold green", "broken": "bold red", "inconclusive": "bold yellow", "harness error": "bold magenta"}
SYMBOLS = {"held": "✓", "broken": "✗", "inconclusive": "?", "harness error": "!"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Shown:
    """The state of a run as far as the display knows it; times are of `time.monotonic`, in seconds.

    It is replaced as a whole, so that drawing needs no lock: rich draws with its own lock held, and printing takes it.
    """

    phase: str = "starting"
    phase_since: float = field(default_factory=time.monotonic)
    awaited: str | None = None
    awaited_since: float = 0.0
    seen: str = ""
    deadline_s: float | None = None
    traffic: tuple[float, float] | None = None
    zones: Mapping[str, str] = field(default_factory=dict)

    def awaiting_text(self) -> str | None:
        """Return what is awaited with the seconds gone and the deadline, or None where nothing is."""
        if self.awaited is None:
            return None
        gone_s = time.monotonic() - self.awaited_since
        limit = f" of {self.deadline_s:.0f}" if self.deadline_s else ""
        seen = f": {self.seen}" if self.seen else ""
        return f"awaiting {self.awaited} ({gone_s:.0f}{limit} s){seen}"

    def traffic_text(self) -> str | None:
        """Return the requests and errors a second, or None before the first figure."""
        if self.traffic is None:
            return None
        return f"{self.traffic[0]:.1f} requests/s, {self.traffic[1]:.1f} errors/s"

    def zones_text(self) -> str | None:
        """Return the state of each zone, or None before the first one."""
        return ", ".join(f"{zone} {state}" for zone, state in sorted(self.zones.items())) or None


def _harmless[**P](method: Callable[Concatenate[Progress, P], None]) -> Callable[Concatenate[Progress, P], None]:
    """Log whatever goes wrong in a method of the display instead of raising it into the run."""

    @functools.wraps(method)
    def wrapped(self: Progress, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:
            # a display that fails must not take a run with a fault in effect with it
            logger.debug("the display failed in %s", method.__name__, exc_info=True)

    return wrapped


class LastingConsole(Console):
    """A console that falls silent when nobody reads it any more; rich's own then ends the process."""

    def on_broken_pipe(self) -> None:
        """Write nothing from now on."""
        self.quiet = True


class Progress:
    """The live display of one run; every method may be called from any thread, and none of them raises.

    Use it as a context manager, or call `start` and `stop`; both may be called twice. Calls before `start` and after
    `stop` are kept and not shown.
    """

    def __init__(self, console: LastingConsole | None = None, *, line_interval_s: float = LINE_INTERVAL_S) -> None:
        """Show on `console` (default: stderr); plain lines come at most once in `line_interval_s` seconds."""
        self._console = console or LastingConsole(stderr=True)
        self._line_interval_s = line_interval_s
        # held only to change the state, never while rich is called
        self._lock = threading.Lock()
        self._shown = _Shown()
        self._pending: list[str] = []
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._live: Live | None = None
        self._writer: threading.Thread | None = None
        self._restreamed: list[tuple[logging.StreamHandler[Any], Any]] = []

    def __enter__(self) -> Self:
        """Start the display."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the display, whatever happened."""
        self.stop()

    @_harmless
    def start(self) -> None:
        """Begin to show."""
        if self._live or self._writer:
            return
        self._stopping.clear()
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._start_live()
        else:
            self._writer = threading.Thread(target=self._write_lines, name="progress", daemon=True)
            self._writer.start()

    @_harmless
    def stop(self) -> None:
        """Show what is still pending and end; the terminal is as it was before."""
        live, writer = self._live, self._writer
        self._live = self._writer = None
        self._stopping.set()
        self._changed.set()
        try:
            if live:
                live.stop()
            if writer:
                writer.join(timeout=1.0)
        finally:
            for handler, stream in self._restreamed:
                handler.setStream(stream)
            self._restreamed.clear()

    @_harmless
    def phase(self, name: str) -> None:
        """Say which phase has begun (`baseline`, `fault`, …); what was awaited before is not any more."""
        self._change(phase=name, phase_since=time.monotonic(), awaited=None)
        self._say(f"phase {name}", Text(f"▶ {name}", style="bold cyan"))

    @_harmless
    def awaiting(self, text: str | None, deadline_s: float | None = None, seen: str = "") -> None:
        """Say what is awaited and what was last seen of it; None when nothing is awaited any more.

        The time shown counts from the first call with this text. A deadline of None or 0 s is shown as none.
        """
        since = self._shown.awaited_since if text == self._shown.awaited else time.monotonic()
        self._change(awaited=text, awaited_since=since, deadline_s=deadline_s, seen=seen)

    @_harmless
    def traffic(self, requests_per_s: float, errors_per_s: float) -> None:
        """Say how many requests ended in the last second or so, and how many of them in an error, a second."""
        self._change(traffic=(requests_per_s, errors_per_s))

    @_harmless
    def zones(self, states: Mapping[str, str]) -> None:
        """Say in which state each zone is, in a word or two (`up`, `lost`, `drained`)."""
        self._change(zones=dict(states))

    @_harmless
    def note(self, text: str) -> None:
        """Say something that happened, once."""
        self._say(text, Text(f"  {text}"))

    def _change(self, **fields: Any) -> None:  # noqa: ANN401 - the fields of _Shown, which mypy cannot name here
        with self._lock:
            before = self._shown
            self._shown = replace(before, **fields)
            changed = self._shown != before
        if changed:
            self._changed.set()

    def _say(self, line: str, rendered: Text) -> None:
        """Print above the live display, or keep for the next plain line."""
        if self._live:
            self._console.print(rendered)
            return
        with self._lock:
            self._pending.append(" ".join(line.split()))
        self._changed.set()

    def _start_live(self) -> None:
        # stdout is taken over only where it is the terminal too: elsewhere it may carry JSON that must arrive as it is
        live = Live(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=REDRAWS_PER_S,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )
        before = sys.stderr
        live.start()
        self._live = live
        pending, self._pending = self._pending, []
        for line in pending:
            self._console.print(Text(f"  {line}"))
        # Chaos Toolkit's handler holds the stderr of its own start and would write across the display
        for handler in [*logging.getLogger().handlers, *logging.getLogger("chaostoolkit").handlers]:
            if isinstance(handler, logging.StreamHandler) and handler.stream is before:
                handler.setStream(sys.stderr)
                self._restreamed.append((handler, before))

    def _render(self) -> RenderableType:
        try:
            shown = self._shown
            gone_s = time.monotonic() - shown.phase_since
            head = Text(f"{shown.phase} · {gone_s:.0f} s", style="bold")
            rest = (shown.awaiting_text(), shown.traffic_text(), shown.zones_text())
            lines = [Text(f"  {text}", no_wrap=True, overflow="ellipsis") for text in rest if text]
            return Group(Spinner("dots", head), *lines)
        except Exception:
            # drawn in a thread of rich's, whose traceback would land in the display
            logger.debug("the display could not be drawn", exc_info=True)
            return Text()

    def _line(self) -> str:
        with self._lock:
            said, self._pending = self._pending, []
            shown = self._shown
        parts = ["; ".join(said), shown.phase, shown.awaiting_text(), shown.traffic_text(), shown.zones_text()]
        return f"{time.strftime('%H:%M:%S')} " + " · ".join(part for part in parts if part)

    @_harmless
    def _write_lines(self) -> None:
        """Write a line when something has changed, then be silent for the interval; the rest is shown at the end."""
        while True:
            self._changed.wait()
            stopping = self._stopping.is_set()
            self._changed.clear()
            if not stopping or self._pending:
                self._console.print(Text(self._line()), soft_wrap=True)
            if stopping or (self._stopping.wait(self._line_interval_s) and not self._pending):
                return


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Return the table of promises with verdict and figure, made for 80 columns and up.

    The variant stands below the promise, and below the figure of everything that is not held stands the reason.
    """
    table = Table(box=box.SIMPLE, pad_edge=False, header_style="bold", show_lines=True, expand=True)
    table.add_column("promise", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("figure", ratio=1, overflow="fold")
    for verdict in verdicts:
        promise = Text(verdict.promise)
        if verdict.variant:
            promise.append(f"\n{verdict.variant}", style="dim")
        figure = Text(verdict.figure or "no figure")
        if verdict.verdict != "held" and verdict.reason:
            figure.append(f"\n{verdict.reason}", style="italic")
        if verdict.bound:
            figure.append(f"\nbound: {verdict.bound}", style="dim")
        word = Text(f"{SYMBOLS[verdict.verdict]} {verdict.verdict}", style=STYLES[verdict.verdict])
        table.add_row(promise, word, figure)
    return table
