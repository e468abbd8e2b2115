"""Feeds the display from the run folder: phases, zones, and the requests that the load processes write down.

The load is in processes of its own, and what they do is known here by their files alone; so the display reads what the
judge will read.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from pathlib import Path
from typing import Any

from gameday.progress import Progress
from gameday.timeline import Tails, now

EVERY_S = 1.0
# a rate over one second jumps about; over five it still follows a fault closely
RATE_WINDOW_S = 5.0
STATES = {"zone-power-loss": "lost", "zone-drain": "drained"}

logger = logging.getLogger(__name__)


class Feed:
    """Follows a run folder in a thread of its own, from `start` to `stop`, and tells a display; never raises there."""

    def __init__(self, folder: Path, progress: Progress, zones: tuple[str, ...]) -> None:
        """Follow `folder`; all of `zones` are up until the timeline says something else."""
        self._progress = progress
        self._zones = dict.fromkeys(zones, "up")
        self._timeline = Tails(folder, "timeline.jsonl")
        self._requests = Tails(folder, "requests-*.jsonl")
        self._ended: deque[tuple[float, bool]] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress-feed", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End; nothing is told after this."""
        self._stopping.set()
        self._thread.join(timeout=2 * EVERY_S)

    def _follow(self) -> None:
        while not self._stopping.wait(EVERY_S):
            try:
                self.tell()
            except Exception:
                # what is wrong with a file is for the judge to find; the run goes on without a display
                logger.debug("the run folder could not be followed", exc_info=True)

    def tell(self) -> None:
        """Read what is new and tell the display once."""
        for event in self._timeline.read():
            self._tell_event(event)
        self._progress.zones(self._zones)
        for line in self._requests.read():
            if line["outcome"] != "unfinished":
                self._ended.append((line["ended"], line["outcome"] != "ok"))
        if not self._requests.files:
            return
        since = now()[1] - RATE_WINDOW_S
        self._ended = deque(item for item in self._ended if item[0] >= since)
        errors = sum(failed for _, failed in self._ended)
        self._progress.traffic(len(self._ended) / RATE_WINDOW_S, errors / RATE_WINDOW_S)

    def _tell_event(self, event: dict[str, Any]) -> None:
        kind = event["kind"]
        if kind == "phase.begin":
            self._progress.phase(event["phase"])
        elif kind == "provider.act":
            self._progress.note(f"provider: {event.get('act')} {event.get('node')}")
        elif kind == "error":
            self._progress.note(f"error in {event.get('where')}: {event.get('message')}")
        states = {
            "fault.injecting": "being broken",
            "fault.injected": STATES.get(event.get("fault", ""), "broken"),
            "fault.healing": "healing",
            "fault.healed": "up",
        }
        if kind in states:
            self._zones |= dict.fromkeys(event.get("zones") or [], states[kind])
