"""The timeline: what happened in a run, one JSON object a line, appended as it happens.

This module is the bottom of the harness and imports nothing of ours. Every line has

    wall    seconds since the epoch, for people and for joining with other systems
    mono    seconds of the machine's monotonic clock, the same in all processes of one boot; all arithmetic uses it
    kind    what happened, a dotted name (`fault.injected`); docs/architecture.md lists the kinds and their fields
    actor   who acted: harness, fault, provider, sre, customer, automatic; null where nobody did

and the fields of its kind. A line is one `write` on a descriptor opened for appending, so that lines of several threads
and processes never mix and a SIGKILL loses at most the line being written.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

Actor = Literal["harness", "fault", "provider", "sre", "customer", "automatic"]
ACTORS: tuple[str, ...] = get_args(Actor)


def now() -> tuple[float, float]:
    """Return (wall, mono) of this moment, both in seconds."""
    return time.time(), time.clock_gettime(time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a timeline. `mono` and `wall` are in seconds."""

    wall: float
    mono: float
    kind: str
    actor: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - the fields of a kind are JSON values
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - the fields of a kind are JSON values
        """Return a field of the event, or `default` where it has none."""
        return self.fields.get(name, default)


class JsonLines:
    """A file of JSON lines that is only ever appended to; safe for threads, and for processes with one object each."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending; raises OSError where that is not possible."""
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._lock = threading.Lock()

    def append(self, record: dict[str, Any]) -> None:
        """Write one record as one line."""
        line = json.dumps(record, separators=(",", ":"), default=str).encode() + b"\n"
        with self._lock:
            os.write(self._fd, line)

    def close(self) -> None:
        """Close the file; later appends fail."""
        os.close(self._fd)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file, without a last line that was left unfinished; none if the file is missing."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1] if line]


class Tails:
    """Reads what was appended to the files of JSON lines in a folder since the last time."""

    def __init__(self, folder: Path, pattern: str) -> None:
        """Read the files of `folder` that match `pattern`, also those that are not there yet."""
        self._folder, self._pattern = folder, pattern
        self._offsets: dict[Path, int] = {}

    @property
    def files(self) -> int:
        """How many files there were when it was last read."""
        return len(self._offsets)

    def read(self) -> list[dict[str, Any]]:
        """Return the lines that have been completed since, those of one file in their order."""
        found: list[dict[str, Any]] = []
        for path in sorted(self._folder.glob(self._pattern)):
            offset = self._offsets.setdefault(path, 0)
            with path.open("rb") as file:
                file.seek(offset)
                complete, newline, _ = file.read().rpartition(b"\n")
            self._offsets[path] = offset + len(complete) + len(newline)
            found += [json.loads(line) for line in complete.splitlines() if line]
        return found


class Timeline:
    """Writes and reads the timeline of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = JsonLines(path)

    def append(self, kind: str, actor: Actor | None = None, **fields: Any) -> Event:  # noqa: ANN401 - JSON values
        """Write down that something happened now, and return it."""
        wall, mono = now()
        self._lines.append({"wall": wall, "mono": mono, "kind": kind, "actor": actor, **fields})
        return Event(wall, mono, kind, actor, fields)

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def read_timeline(path: Path) -> list[Event]:
    """Return all events of a timeline in the order of the monotonic clock."""
    events = [
        Event(line.pop("wall"), line.pop("mono"), line.pop("kind"), line.pop("actor", None), line)
        for line in read_json_lines(path)
    ]
    return sorted(events, key=lambda event: event.mono)
