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
    """Return a function that writes a shipped experiment with fewer engines and promises, and less to observe."""

    def write(
        name: str,
        *,
        promises: tuple[str, ...] = (),
        engines: tuple[str, ...] = ("mds",),
        observe_s: float | None = None,
        baseline_s: float | None = None,
    ) -> Path:
        document: dict[str, Any] = yaml.safe_load(EXPERIMENTS[name].read_text())
        document["extensions"][0]["engines"] = list(engines)
        hypothesis = document["steady-state-hypothesis"]
        asserted = [_argument(probe, "promise") for probe in hypothesis["probes"]]
        kept = promises or tuple(name for name in asserted if name and _is_about(name, engines))
        hypothesis["probes"] = [probe for probe in hypothesis["probes"] if _argument(probe, "promise") in (None, *kept)]
        for part in (hypothesis["probes"], document["method"]):
            part[:] = [activity for activity in part if _concerns(activity, engines)]
        for activity in document["method"]:
            arguments = activity["provider"].get("arguments", {})
            if "engines" in arguments:
                arguments["engines"] = list(engines)
                if "spark" not in engines:
                    del arguments["jobs"]
            wanted = {"observe": observe_s, "baseline": baseline_s}.get(activity["provider"]["func"])
            if wanted is not None:
                arguments["seconds"] = wanted
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return write


def _argument(activity: dict[str, Any], name: str) -> Any:  # noqa: ANN401 - JSON values
    return activity["provider"].get("arguments", {}).get(name)


def _is_about(promise: str, engines: tuple[str, ...]) -> bool:
    return promise.split(".")[1] in ("all", "customer", *engines)


def _concerns(activity: dict[str, Any], engines: tuple[str, ...]) -> bool:
    """Tell whether an activity is about one of the engines, or about none in particular."""
    module, function = activity["provider"]["module"], activity["provider"]["func"]
    if function in ("await_jobs", "run_references"):
        return "spark" in engines
    if module in ("probes.mds", "probes.presto", "probes.spark"):
        return module.removeprefix("probes.") in engines
    named = _argument(activity, "engine") or _argument(activity, "formation")
    return named is None or named in engines


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
