"""A run that dies can be healed: it does so itself on SIGINT and SIGTERM, and `chaos recover` does after SIGKILL."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from lab import Begin, Lakehouse, Shortened, chaos, verdicts_in
from shortening import without

from faults.undo import outstanding
from gameday.clusters import node_states
from gameday.engine import find_engine
from gameday.errors import ExitCode
from gameday.waiting import wait_until

pytestmark = pytest.mark.cluster
# The event after which the run is killed, and how many nodes `chaos recover` then has to say that it healed.
MOMENTS: dict[str, tuple[str, dict[str, object], int]] = {
    "before the injection": ("phase.begin", {"phase": "baseline"}, 0),
    "during the injection": ("fault.injecting", {}, 1),
    "after the injection": ("fault.injected", {}, 1),
    "while waiting": ("node", {"ready": False}, 1),
    "while healing": ("fault.healing", {}, 1),
}


def _loss(shortened: Shortened, *left_out: str) -> Path:
    """Return the loss of a zone for long enough to be noticed: who kills a run waits for nothing to be back."""
    lost = shortened("zone-with-neither", promises=("S5.customer",), observe_s=18, baseline_s=5)
    return without(lost, "wait_", *left_out)


def _recover(region: str) -> list[dict[str, Any]]:
    ran = chaos("recover", "--region", region, "--json")
    assert ran.code == ExitCode.HELD, ran.said
    healed: list[dict[str, Any]] = json.loads(ran.stdout)["healed"]
    return healed


@pytest.mark.parametrize("moment", MOMENTS)
def test_after_sigkill_recover_brings_every_node_back(
    mds_alone: Lakehouse, begin: Begin, shortened: Shortened, moment: str
) -> None:
    """Whenever a run is killed, `chaos recover` says what it healed, and every node is usable again."""
    kind, fields, healed = MOMENTS[moment]
    # who is killed in the baseline has one
    left_out = ["baseline"] if healed else []
    running = begin(mds_alone.region.name, _loss(shortened, *left_out))
    running.await_event(kind, **fields)
    running.end(signal.SIGKILL)
    found = _recover(mds_alone.region.name)
    assert sum(len(item["nodes"]) for item in found) == healed
    assert outstanding(mds_alone.region) == []
    assert all(state.ready and state.container == "running" for state in node_states(mds_alone.region, find_engine()))
    wait_until("the load to end with its parent", lambda: ", ".join(running.loads()) or None, deadline_s=30)
    assert _recover(mds_alone.region.name) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_heals_by_itself(
    mds_alone: Lakehouse, begin: Begin, shortened: Shortened, number: signal.Signals
) -> None:
    """SIGINT and SIGTERM in the middle of a fault: the zone is back when the process ends, and that is no success."""
    running = begin(mds_alone.region.name, _loss(shortened, "baseline"))
    running.await_event("fault.in_effect")
    assert running.end(number) in (ExitCode.INCONCLUSIVE, ExitCode.HARNESS_ERROR)
    assert set(verdicts_in(running.runs).values()) <= {"inconclusive", "harness error"}
    assert outstanding(mds_alone.region) == []
    assert all(state.ready and state.container == "running" for state in node_states(mds_alone.region, find_engine()))
    assert running.loads() == []


def test_a_second_run_is_refused_while_one_is_under_way(
    mds_alone: Lakehouse, begin: Begin, shortened: Shortened
) -> None:
    """Two runs in a region would heal each other's faults, so the second one, and a recovery, is told to wait."""
    experiment = _loss(shortened)
    running = begin(mds_alone.region.name, experiment)
    running.await_event("phase.begin", phase="baseline")
    for arguments in (("run", str(experiment)), ("recover",)):
        ran = chaos(arguments[0], "--region", mds_alone.region.name, *arguments[1:])
        assert ran.code == ExitCode.USAGE, ran.said
        assert "another command works on region" in ran.stderr
    assert running.end(signal.SIGTERM) in (ExitCode.INCONCLUSIVE, ExitCode.HARNESS_ERROR)


def test_the_next_run_passes(mds_alone: Lakehouse, shortened: Shortened, tmp_path: Path) -> None:
    """After all that was done to the region, an experiment runs as ever."""
    ran, verdicts = mds_alone.run(shortened("zone-drain", observe_s=5, baseline_s=10), tmp_path / "runs")
    assert ran.code == ExitCode.HELD, ran.said
    assert {item["verdict"] for item in verdicts.values()} == {"held"}
