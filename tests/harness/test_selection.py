"""Tests of some engines alone: what is left out needs another formation, and with all engines named nothing is."""

from __future__ import annotations

import subprocess
import sys

from gameday.paths import PROJECT
from lakehouse.formations import FORMATIONS

ALL = [formation.name for formation in FORMATIONS]
# One file for each way in which a test says what it needs: nothing, a marker of the module or of the test, a fixture.
FILES = {
    "harness/test_measure.py": set(),
    "harness/test_judge_milvus.py": {"milvus"},
    "harness/test_hour.py": {"backup"},
    "cluster/test_region.py": {"mds"},
    "cluster/test_alerts.py": {*ALL, "monitoring", "backup"},
    "cluster/test_soak.py": {"milvus"},
    "sabotage/test_killed_runs.py": {"mds"},
}


def collected(*engines: str) -> set[str]:
    """Return the files of which a test is collected."""
    options = [f"--engine={engine}" for engine in engines]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *options, *(f"tests/{name}" for name in FILES)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return {line.split("::")[0].removeprefix("tests/") for line in ran.stdout.splitlines() if "::" in line}


def test_what_needs_another_formation_is_left_out() -> None:
    """Alerts and backups are of all engines, so of one alone there are none."""
    assert collected("mds") == {name for name, needs in FILES.items() if needs <= {"mds"}}


def test_with_all_engines_nothing_is_left_out() -> None:
    """As without the option: alerts and backups are there, too."""
    assert collected(*ALL) == set(FILES)
