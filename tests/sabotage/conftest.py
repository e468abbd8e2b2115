"""Experiments shortened for the tests, and `chaos run` as a process that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gameday.paths import PROJECT
from gameday.timeline import read_json_lines
from gameday.waiting import wait_until

EXPERIMENTS = PROJECT / "experiments" / "zone-outage"
CHAOS = Path(sys.executable).with_name("chaos")


@pytest.fixture
def shortened(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a shipped experiment with other figures and promises."""

    def write(name: str, *, promises: tuple[str, ...] = (), observe_s: float | None = None) -> Path:
        document: dict[str, Any] = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text())
        hypothesis = document["steady-state-hypothesis"]
        if promises:
            hypothesis["probes"] = [
                probe
                for probe in hypothesis["probes"]
                if probe["provider"]["module"] != "probes.promises"
                or probe["provider"]["arguments"]["promise"] in promises
            ]
        for activity in document["method"]:
            if activity["provider"]["func"] == "observe" and observe_s is not None:
                activity["provider"]["arguments"]["seconds"] = observe_s
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return write


@dataclass
class Running:
    """A `chaos run` under way."""

    process: subprocess.Popen[bytes]
    runs: Path

    def await_event(self, kind: str, deadline_s: float = 150.0, **fields: object) -> None:
        """Wait until the run has written an event of a kind with these fields."""

        def look() -> str | None:
            events = [event for path in self.runs.glob("*/timeline.jsonl") for event in read_json_lines(path)]
            found = [event for event in events if event["kind"] == kind]
            if any(all(event.get(name) == value for name, value in fields.items()) for event in found):
                return None
            if self.process.poll() is not None:
                raise AssertionError(f"the run ended with {self.process.returncode} before {kind}")
            return f"{len(events)} other events"

        wait_until(f"the event {kind}", look, deadline_s=deadline_s, every_s=0.01)

    def end(self, number: signal.Signals, deadline_s: float = 200.0) -> int:
        """Send a signal and return the exit code."""
        os.kill(self.process.pid, number)
        return self.process.wait(timeout=deadline_s)

    def loads(self) -> list[str]:
        """Return the command lines of load processes of this run that are alive."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if "locust" in line and str(self.runs) in line:
                found.append(line)
        return found


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., Running]:
    """Return a function that starts an experiment as a process of its own."""

    def start(region: str, experiment: Path, *options: str) -> Running:
        runs = tmp_path / f"runs-{time.monotonic_ns()}"
        command = [str(CHAOS), "run", "--region", region, "--runs", str(runs), *options, str(experiment)]
        with (tmp_path / "run.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=PROJECT)
        return Running(process, runs)

    return start


def verdicts_in(runs: Path) -> dict[str, str]:
    """Return the verdict of each promise of the one run in a folder."""
    (path,) = runs.glob("*/verdicts.json")
    return {item["promise"]: item["verdict"] for item in json.loads(path.read_text())}
