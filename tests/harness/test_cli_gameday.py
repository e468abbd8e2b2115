"""Game days: each experiment in a process of its own, and one answer for all of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gameday.cli_gameday import _meaning
from gameday.contract import load_contract
from gameday.errors import ExitCode
from gameday.experiment import load_experiment
from gameday.paths import PROJECT
from gameday.topology import load_topology

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


def test_a_day_of_one_engine_asks_nothing_of_the_others(tmp_path: Path) -> None:
    """What needs another engine is left out, aloud; the rest is run as it is written down beside its evidence."""
    command = [str(Path(sys.executable).with_name("chaos")), "--no-version-check", "gameday", "--region", "nowhere"]
    command += ["--engine", "mds", str(EXPERIMENTS[0].parent)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    left_out = re.findall(r"^  left out: .*/(.*)\.yaml, which is about (.*)$", done.stderr, re.MULTILINE)
    assert left_out == [("zone-with-driver", "spark"), ("zone-with-executors", "spark")]
    assert "3 experiments of mds alone: none judged" in done.stdout
    ran = re.findall(r"^experiment \d of 3: (.*)$", done.stderr, re.MULTILINE)
    assert [Path(name).stem for name in ran] == ["zone-with-neither", "two-zones-one-returns", "two-zones"]
    contract, topology = load_contract(PROJECT / "contract.yaml"), load_topology(PROJECT / "kind-config.yaml")
    written = [load_experiment(tmp_path / name, contract, topology) for name in ran]
    assert all(experiment.engines == ["mds"] for experiment in written)
    alike = {"S5.all.capacity", "S5.customer", "S5.all.rescheduled"}
    assert {promise for experiment in written for promise in experiment.promises} == alike | {
        "S5.mds.one-zone",
        "S5.mds.two-zones",
        "S5.mds.until",
    }


def test_a_day_of_one_engine_with_nothing_about_it_is_refused(tmp_path: Path) -> None:
    """Before anything is made."""
    command = [str(Path(sys.executable).with_name("chaos")), "--no-version-check", "gameday", "--engine", "mds"]
    command += ["--region", "nowhere", "--runs", "runs", str(EXPERIMENTS[1])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == ExitCode.USAGE
    assert "no experiment of these is about mds alone" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("code", "means"),
    [(0, ExitCode.HELD), (2, ExitCode.INCONCLUSIVE), (64, ExitCode.USAGE)]
    # a crash, a signal, a process that was not waited for, and a 1 that no verdict explains
    + [(code, ExitCode.HARNESS_ERROR) for code in (1, 77, -9, None)],
)
def test_what_is_no_verdict_is_an_error_of_the_harness(tmp_path: Path, code: int | None, means: ExitCode) -> None:
    """Of a run that left no verdicts, whatever it ended with."""
    assert _meaning(code, tmp_path, EXPERIMENTS[0]) == means
