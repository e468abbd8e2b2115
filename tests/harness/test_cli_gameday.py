"""Game days: each experiment in a process of its own, and one answer for all of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gameday.cli_gameday import _meaning
from gameday.errors import ExitCode
from gameday.paths import PROJECT

EXPERIMENTS = [PROJECT / "experiments" / "zone-outage" / f"{name}.yaml" for name in ("two-zones", "zone-with-driver")]


def test_each_experiment_is_a_run_of_its_own(tmp_path: Path) -> None:
    """On a region that is not there each says so once and ends with 64, so does the day; each has its own log."""
    command = [str(Path(sys.executable).with_name("chaos")), "--no-version-check", "--log-file", "day.log", "gameday"]
    command += ["--region", "nowhere", "--runs", "runs", *map(str, EXPERIMENTS)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert done.stderr.count("regions/nowhere/kubeconfig: run `chaos cluster up` first") == len(EXPERIMENTS)
    assert "Traceback" not in done.stderr
    logs = {path.stem: path.read_text().count("Running command") for path in tmp_path.glob("runs/*-gameday/*.log")}
    assert logs == {path.stem: 1 for path in EXPERIMENTS}
    assert (tmp_path / "day.log").read_text().count("Running command") == 1
    assert f"{len(EXPERIMENTS)} experiments: none judged" in done.stdout


def test_a_folder_begins_with_what_breaks_the_fewest_zones(tmp_path: Path) -> None:
    """Files that are named are run as they are named."""
    command = [str(Path(sys.executable).with_name("chaos")), "--no-version-check", "gameday", "--region", "nowhere"]
    ran = []
    for paths in ([EXPERIMENTS[0].parent], EXPERIMENTS):
        done = subprocess.run(
            [*command, *paths], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )
        ran.append([Path(name).stem for name in re.findall(r"^experiment \d of \d: (.*)$", done.stderr, re.MULTILINE)])
    one, two = ["zone-with-driver", "zone-with-executors", "zone-with-neither"], ["two-zones-one-returns", "two-zones"]
    assert ran == [one + two, ["two-zones", "zone-with-driver"]]


@pytest.mark.parametrize(
    ("code", "means"),
    [(0, ExitCode.HELD), (2, ExitCode.INCONCLUSIVE), (64, ExitCode.USAGE)]
    # a crash, a signal, a process that was not waited for, and a 1 that no verdict explains
    + [(code, ExitCode.HARNESS_ERROR) for code in (1, 77, -9, None)],
)
def test_what_is_no_verdict_is_an_error_of_the_harness(tmp_path: Path, code: int | None, means: ExitCode) -> None:
    """Of a run that left no verdicts, whatever it ended with."""
    assert _meaning(code, tmp_path, EXPERIMENTS[0]) == means
