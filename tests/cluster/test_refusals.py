"""Bad input is one sentence and exit code 64, with nothing touched; an unhealthy lakehouse is inconclusive."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from kubernetes import client
from lab import Lakehouse, chaos
from shortening import shorten

from faults.undo import Undo, forget, remember
from gameday.clusters import node_states
from gameday.engine import find_engine
from gameday.errors import ExitCode
from gameday.regions import OPT_IN, api_client, mark_opt_in

pytestmark = pytest.mark.cluster
type RefusedRun = Callable[..., str]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an experiment that would run: a shipped one of MDS alone."""
    return shorten(tmp_path_factory.mktemp("sound"), "zone-with-neither")


@pytest.fixture
def refused(mds_alone: Lakehouse, tmp_path: Path) -> RefusedRun:
    """Return a function that asserts that `chaos run` refused and touched nothing, and returns what it said."""

    def run(path: Path, *options: str, runs: Path | None = None) -> str:
        target = runs or tmp_path / "runs"
        ran = chaos("run", "--region", mds_alone.region.name, "--runs", str(target), *options, str(path))
        assert ran.code == ExitCode.USAGE, ran.said
        assert "Traceback" not in ran.stderr
        assert len(ran.stderr.strip().splitlines()) == 1, ran.stderr
        assert not list(tmp_path.glob("runs/*"))
        assert all(state.ready for state in node_states(mds_alone.region, find_engine()))
        return ran.stderr

    return run


def test_a_cluster_without_the_opt_in_mark_is_refused(
    mds_alone: Lakehouse, refused: RefusedRun, experiment: Path
) -> None:
    """A fault is only for clusters that the harness made."""
    api = api_client(mds_alone.region.kubeconfig)
    client.CoreV1Api(api).delete_namespaced_config_map(OPT_IN, "kube-system")
    try:
        assert "opt-in mark" in refused(experiment)
    finally:
        mark_opt_in(api, mds_alone.region.name)


def test_a_kubeconfig_that_points_nowhere_is_refused(
    mds_alone: Lakehouse, refused: RefusedRun, experiment: Path, tmp_path: Path
) -> None:
    """A missing file, a file that is none, and a server that does not answer."""
    assert "there is no kubeconfig" in refused(experiment, "--kubeconfig", str(tmp_path / "none"))
    bad = tmp_path / "bad"
    bad.write_text("just: text")
    assert "is not a kubeconfig" in refused(experiment, "--kubeconfig", str(bad))
    nowhere = tmp_path / "nowhere"
    text = mds_alone.region.kubeconfig.read_text()
    nowhere.write_text(re.sub(r"server: https://127\.0\.0\.1:\d+", "server: https://127.0.0.1:9", text))
    assert "does not answer" in refused(experiment, "--kubeconfig", str(nowhere))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("zone-b", "zone-z", "unknown zone 'zone-z'"),
        ("fault: zone-power-loss", "fault: zone-flood", "unknown fault 'zone-flood'"),
        ("promise: S5.mds.one-zone", "promise: S5.mds.no-zone", "unknown promise 'S5.mds.no-zone'"),
        ("tags:", "tag:", "unknown field 'tag'"),
        ("seconds: ", "second: ", "wrongly"),
        ("func: baseline", "func: base", "does not exist"),
        ("disaster: 5", "disaster: five", "extension"),
        ("title: One", "title: [One", "is not YAML"),
    ],
)
def test_an_experiment_with_a_wrong_name_is_refused(
    refused: RefusedRun, experiment: Path, tmp_path: Path, old: str, new: str, says: str
) -> None:
    """Unknown zones, faults, promises, fields, functions and arguments are found before anything is touched."""
    text = experiment.read_text()
    assert old in text
    path = tmp_path / "wrong.yaml"
    path.write_text(text.replace(old, new))
    assert says in refused(path)


def test_a_contract_that_is_none_is_refused(refused: RefusedRun, experiment: Path, tmp_path: Path) -> None:
    """A missing file, and one with something else in it."""
    assert "none.yaml" in refused(experiment, "--contract", str(tmp_path / "none.yaml"))
    other = tmp_path / "other.yaml"
    other.write_text("promises: many")
    assert "other.yaml" in refused(experiment, "--contract", str(other))


def test_a_run_folder_that_cannot_be_made_is_refused(refused: RefusedRun, experiment: Path, tmp_path: Path) -> None:
    """A path below a file can be made by nobody, not even by root."""
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(experiment, runs=tmp_path / "file" / "runs")


def test_a_missing_experiment_and_an_unknown_region_are_refused(
    refused: RefusedRun, experiment: Path, tmp_path: Path
) -> None:
    """What is not there is named."""
    assert "there is no experiment" in refused(tmp_path / "none.yaml")
    assert "no kubeconfig" in refused(experiment, "--region", "nowhere")


def test_a_lakehouse_that_is_not_healthy_is_inconclusive_and_left_alone(
    mds_alone: Lakehouse, experiment: Path, tmp_path: Path
) -> None:
    """With an earlier fault outstanding nothing is broken: exit code 2, and the sentence says what to do."""
    remember(mds_alone.region, Undo("zone-drain", "leftover", ["zone-c"], [], "an earlier run", 0.0))
    try:
        ran = chaos("run", "--region", mds_alone.region.name, "--runs", str(tmp_path / "runs"), str(experiment))
    finally:
        forget(mds_alone.region, "leftover")
    assert ran.code == ExitCode.INCONCLUSIVE
    assert "chaos recover" in ran.said
    (path,) = (tmp_path / "runs").glob("*/verdicts.json")
    assert {item["verdict"] for item in json.loads(path.read_text())} == {"inconclusive"}


def test_an_experiment_of_others_is_chaos_toolkits_own(tmp_path: Path) -> None:
    """A plain experiment that calls nothing of ours is run by Chaos Toolkit as ever."""
    probe = {"type": "probe", "name": "say", "provider": {"type": "python", "module": "os", "func": "getpid"}}
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump({"title": "plain", "description": "plain", "method": [probe]}))
    ran = chaos("run", "--journal-path", str(tmp_path / "journal.json"), str(path))
    assert ran.code == 0, ran.said
    assert json.loads((tmp_path / "journal.json").read_text())["status"] == "completed"
