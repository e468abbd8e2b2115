"""Experiments shortened for the tests, and `chaos run` as a process that can be killed."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import CHAOS, EXPERIMENTS, Begin, Running, Shortened

from gameday.paths import PROJECT


@pytest.fixture
def shortened(tmp_path: Path) -> Shortened:
    """Return a function that writes a shipped experiment with fewer promises and a shorter observation."""

    def write(
        name: str,
        *,
        promises: tuple[str, ...] = (),
        observe_s: float | None = None,
        baseline_s: float | None = None,
    ) -> Path:
        document: dict[str, Any] = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text())
        hypothesis = document["steady-state-hypothesis"]
        if promises:
            hypothesis["probes"] = [
                probe
                for probe in hypothesis["probes"]
                if probe["provider"].get("arguments", {}).get("promise", promises[0]) in promises
            ]
        for activity in document["method"]:
            wanted = {"observe": observe_s, "baseline": baseline_s}.get(activity["provider"]["func"])
            if wanted is not None:
                activity["provider"]["arguments"]["seconds"] = wanted
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return write


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
