"""Experiments shortened for the tests, and `chaos run` as a process that can be killed."""

from __future__ import annotations

import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
from lab import CHAOS, Begin, Running, Shortened
from shortening import shorten

from gameday.paths import PROJECT


@pytest.fixture
def shortened(tmp_path: Path) -> Shortened:
    """Return a function that writes a shipped experiment with fewer engines and promises, and less to observe."""
    return partial(shorten, tmp_path)


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """Return a function that starts an experiment as a process of its own."""

    def start(region: str, experiment: Path, *options: str) -> Running:
        runs = tmp_path / f"runs-{time.monotonic_ns()}"
        command = [CHAOS, "run", "--region", region, "--runs", str(runs), *options, str(experiment)]
        with (tmp_path / "run.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=PROJECT)
        return Running(process, runs)

    return start
