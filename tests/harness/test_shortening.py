"""Experiments made shorter for the tests of the cluster are sound: these find out only after minutes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from lab import EXPERIMENTS
from shortening import shorten, without

from gameday.contract import load_contract
from gameday.experiment import load_experiment
from gameday.narrowing import narrow
from gameday.paths import PROJECT
from gameday.topology import load_topology

ENGINES = [("mds",), ("mds", "spark"), ("mds", "presto"), ("mds", "milvus"), ("mds", "milvus", "presto", "spark")]


@pytest.mark.parametrize("engines", ENGINES, ids=["-".join(engines) for engines in ENGINES])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_shortened_experiment_is_sound(name: str, engines: tuple[str, ...], tmp_path: Path) -> None:
    """On fewer engines each shipped experiment loads, and still asserts promises."""
    path = shorten(tmp_path, name, engines=engines, observe_s=5, baseline_s=5)
    contract, topology = load_contract(PROJECT / "contract.yaml"), load_topology(PROJECT / "kind-config.yaml")
    experiment = load_experiment(path, contract, topology)
    assert experiment.promises
    assert experiment.document["extensions"][0]["engines"] == list(engines)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_without_some_of_its_steps_is_sound(name: str, tmp_path: Path) -> None:
    """What is waited for is gone, and the rest is there."""
    path = without(shorten(tmp_path, name), "await_recovery", "wait_", "baseline")
    contract, topology = load_contract(PROJECT / "contract.yaml"), load_topology(PROJECT / "kind-config.yaml")
    done = [one["provider"]["func"] for one in load_experiment(path, contract, topology).document["method"]]
    assert {"inject", "in_effect", "observe", "heal", "end_loads"} <= set(done)
    assert not [one for one in done if one.startswith(("wait_", "await_recovery", "baseline"))]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_on_all_its_engines_is_itself(name: str) -> None:
    """Narrowing leaves out nothing but what concerns other engines."""
    document = yaml.safe_load(EXPERIMENTS[name].read_text())
    assert narrow(document, document["extensions"][0]["engines"]) == document
