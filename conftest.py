"""The composition root of the tests: the one cluster that they share, its lakehouse, and runs of experiments on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gameday import clusters
from gameday.engine import Engine, find_engine
from gameday.regions import Region, region_named
from lakehouse import deploy
from lakehouse.images import node_images

PROJECT = Path(__file__).parent
CHAOS = Path(sys.executable).with_name("chaos")
# The region that `make gameday` uses too: a cluster that is up is used, one that is not is taken down in the end.
REGION = os.environ.get("CHAOS_TEST_REGION", "east")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put all tests of the shared cluster into one group, so that xdist never runs two of their faults at once."""
    for item in items:
        if item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.xdist_group("cluster"))


@dataclass(frozen=True)
class Ran:
    """How a command of `chaos` ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """All it printed."""
        return self.stdout + self.stderr


def chaos(*arguments: str, timeout: float = 600, **environment: str) -> Ran:
    """Run a command of `chaos` in a process of its own, as a user does."""
    done = subprocess.run(
        [str(CHAOS), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=PROJECT,
        env={**os.environ, **environment},
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Lakehouse:
    """The shared region with its lakehouse up, and ways to run experiments on it."""

    region: Region
    engine: Engine

    def run(self, experiment: Path, runs: Path, *options: str) -> tuple[Ran, dict[str, dict[str, Any]]]:
        """Run an experiment by hand and return how it ended, with its verdicts by promise."""
        ran = chaos("run", "--region", self.region.name, "--runs", str(runs), *options, str(experiment))
        found = sorted(runs.glob("*/verdicts.json"))
        verdicts = json.loads(found[-1].read_text()) if found else []
        return ran, {item["promise"]: item for item in verdicts}


@pytest.fixture(scope="session")
def region() -> Iterator[Region]:
    """Return the region of the shared cluster, which is up."""
    chosen, engine = region_named(REGION), find_engine()
    made = clusters.up(chosen, lambda engine: node_images(engine, "auto"))
    yield chosen
    if made:
        clusters.down(chosen, engine)


@pytest.fixture(scope="session")
def lakehouse(region: Region) -> Lakehouse:
    """Return the shared region with its lakehouse up."""
    engine = find_engine()
    deploy.up(region, engine)
    return Lakehouse(region, engine)
