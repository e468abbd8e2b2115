"""Experiments are checked before anything is touched: a file is fit to run, or refused in one sentence."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gameday.contract import Contract, load_contract
from gameday.errors import UsageError
from gameday.experiment import Experiment, activities, is_ours, load_experiment, read_document
from gameday.paths import PROJECT
from gameday.topology import Topology, load_topology
from loadgen.schedule import ARRIVALS_PER_S, declared_rates

EXPERIMENTS = sorted((PROJECT / "experiments").rglob("*.yaml"))
DRIVER = PROJECT / "experiments" / "zone-outage" / "zone-with-driver.yaml"
HYPOTHESIS = "steady-state-hypothesis"
# places of DRIVER's document
JOBS = ("method", 0, "provider", "arguments", "jobs")
INJECT, BASELINE, WAIT, PROMISE = ("method", 2), ("method", 1), ("method", 4), (HYPOTHESIS, "probes", 9)
type Load = Callable[[Path], Experiment]
GONE = object()


@pytest.fixture(scope="module")
def load() -> Load:
    """Return a function that loads an experiment with the project's own contract and topology."""
    contract: Contract = load_contract(PROJECT / "contract.yaml")
    topology: Topology = load_topology(PROJECT / "kind-config.yaml")
    return lambda path: load_experiment(path, contract, topology)


def changed(place: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """Return the document of DRIVER with a value put at a place, or nothing there if it is GONE."""
    document: dict[str, Any] = copy.deepcopy(yaml.safe_load(DRIVER.read_text()))
    inner: Any = document
    for part in place[:-1]:
        inner = inner[part]
    if value is GONE:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return document


def refusal(load: Load, path: Path) -> str:
    """Return the one sentence by which a file is refused; it names the file."""
    with pytest.raises(UsageError) as refused:
        load(path)
    sentence = str(refused.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_experiments_of_the_project_are_sound(load: Load, path: Path) -> None:
    """Each one loads, is ours, and asserts promises."""
    experiment = load(path)
    assert is_ours(experiment.document)
    assert experiment.promises
    assert experiment.name == path.stem


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_a_baseline_has_as_many_requests_as_the_contract_asks_for(path: Path) -> None:
    """At the declared rates each engine under load has more requests in the baseline than a comparison takes."""
    evidence = load_contract(PROJECT / "contract.yaml").evidence
    steps = {step["provider"]["func"]: step["provider"]["arguments"] for step in read_document(path)["method"][:2]}
    for engine in steps["begin_loads"]["engines"]:
        requests_per_s = sum(declared_rates(engine, ARRIVALS_PER_S[engine]).values())
        # one or two are still in flight when the fault is injected, and those are left out
        assert requests_per_s * steps["baseline"]["seconds"] >= evidence.baseline_requests_min_of(engine) + 2, engine


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_one_failed_operation_of_mds_breaks_no_promise(path: Path) -> None:
    """Where no impact is promised, MDS has so many operations in the fault that the contract lets one of them fail."""
    allowed = load_contract(PROJECT / "contract.yaml").impact.of("mds").error_ratio_max
    requests_per_s = sum(declared_rates("mds", ARRIVALS_PER_S["mds"]).values())
    arguments = [step["provider"].get("arguments", {}) for step in read_document(path)["method"]]
    lasts_s = [one["since_fault_s"] for one in arguments if "since_fault_s" in one]
    # of two zones impact is promised
    assert len(lasts_s) == (0 if path.stem.startswith("two-zones") else 1)
    assert all(requests_per_s * seconds * allowed >= 1 for seconds in lasts_s)


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (("title",), 5, "title: Input should be a valid string"),
        (("title",), GONE, "lacks the field 'title'"),
        (("tag",), ["mds"], "has the unknown field 'tag'"),
        (("method",), 5, "method: Input should be a valid list"),
        (("method",), None, "method: Input should be a valid list"),
        (("method", 0), 5, "method, item 1: "),
        (("rollbacks",), GONE, "lacks the field 'rollbacks'"),
        (("extensions",), 5, "extensions: Input should be a valid list"),
        (("extensions",), [5], "extensions, item 1: "),
        (("extensions",), [], "one extension named lakehouse-chaos"),
        (("extensions", 0, "disaster"), "five", "extension lakehouse-chaos, disaster: "),
        (("extensions", 0, "disaster"), "5", "extension lakehouse-chaos, disaster: "),
        (("extensions", 0, "colour"), "red", "extension lakehouse-chaos has the unknown field 'colour'"),
        (("extensions", 0, "needs"), ["sparc"], "extension lakehouse-chaos: needs 'sparc', none of its engines"),
        (("extensions", 0, 7), "red", "extensions, extension 'lakehouse-chaos', "),
        ((HYPOTHESIS,), [], f"{HYPOTHESIS}: "),
        ((HYPOTHESIS, "title"), GONE, f"{HYPOTHESIS}, lacks the field 'title'"),
        ((HYPOTHESIS, "probes"), 5, f"{HYPOTHESIS}, probes: "),
        ((HYPOTHESIS, "probes"), [], "asserts no promise"),
        ((*PROMISE, "tolerance"), GONE, "activity 'held: S5.all.capacity', lacks the field 'tolerance'"),
        ((*PROMISE, "tolerance", "pattern"), "(held", "activity 'held: S5.all.capacity', has a wrong tolerance"),
        ((*PROMISE, "tolerance"), {"type": "probe", "provider": 5}, "has a wrong tolerance"),
        ((*PROMISE, "tolerance"), None, "has a wrong tolerance"),
        ((*PROMISE, "provider", "arguments", "promise"), "S5.no", "unknown promise 'S5.no'"),
        ((*PROMISE, "provider", "arguments", "promise"), ["S5.customer"], "wrongly: promise: "),
        ((*INJECT, "name"), GONE, "method, item 3, lacks the field 'name'"),
        ((*INJECT, "nmae"), "x", "method, activity 'lose zone-a', has the unknown field 'nmae'"),
        ((*INJECT, "type"), "act", "activity 'lose zone-a', type: "),
        ((*INJECT, "provider"), 5, "activity 'lose zone-a', provider: "),
        ((*INJECT, "provider", "type"), "process", "provider, type: Input should be 'python'"),
        ((*INJECT, "provider", "arguments"), None, "provider, arguments: "),
        ((*INJECT, "provider", "module"), "faults.x", "calls faults.x.inject, which does not exist"),
        ((*INJECT, "provider", "module"), "chaosk8s.node.actions", "which is none of faults, runbooks, probes"),
        ((*INJECT, "provider", "module"), ".x", "which is none of faults, runbooks, probes"),
        ((*INJECT, "provider", "module"), ["faults.actions"], "provider, module: "),
        ((*INJECT, "provider", "func"), "injekt", "which does not exist"),
        ((*INJECT, "provider", "func"), "FAULTS", "wrongly"),
        ((*INJECT, "provider", "arguments", "zone"), ["zone-a"], "wrongly"),
        ((*INJECT, "provider", "arguments", "fault"), ["zone-drain"], "wrongly: fault: "),
        ((*INJECT, "provider", "arguments", "fault"), "flood", "unknown fault 'flood'"),
        ((*INJECT, "provider", "arguments", "zones"), 5, "wrongly: zones: "),
        ((*INJECT, "provider", "arguments", "zones"), "zone-a", "wrongly: zones: "),
        ((*INJECT, "provider", "arguments", "zones"), [["zone-a"]], "wrongly: zones: "),
        ((*INJECT, "provider", "arguments", "zones"), [], "names no zone"),
        ((*INJECT, "provider", "arguments", "zones"), ["zone-z"], "unknown zone 'zone-z'"),
        ((*WAIT, "provider", "arguments", "outside"), ["zone-z"], "unknown zone 'zone-z'"),
        (JOBS, 5, "wrongly: jobs: "),
        ((*JOBS, 0, "colour"), "red", "has a job that is none: colour: Extra inputs are not permitted"),
        ((*JOBS, 1, "name"), "No Name", "has a job that is none: name: "),
        ((*JOBS, 0, "arguments"), GONE, "has a job that is none: arguments: Field required"),
        ((*JOBS, 0, "driver_zones"), ["zone-z"], "unknown zone 'zone-z'"),
        ((*JOBS, 1, "executor_zones"), {"preferred": ["zone-y"]}, "unknown zone 'zone-y'"),
        ((*BASELINE, "provider", "arguments", "seconds"), "20", "wrongly: seconds: "),
        ((*BASELINE, "background"), "yes", "background: Input should be a valid boolean"),
        ((*BASELINE, "pauses"), {"before": "long"}, "pauses, before: "),
        ((5,), "x", "Keys should be strings"),
    ],
)
def test_a_wrong_part_is_named_with_its_place(
    load: Load, tmp_path: Path, place: tuple[str | int, ...], value: object, says: str
) -> None:
    """Whatever is wrong in a file, it is one sentence that names the file, the place and the part."""
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(changed(place, value)))
    assert says in refusal(load, path)


def test_a_misspelt_field_is_said_as_such(load: Load, tmp_path: Path) -> None:
    """A field under a wrong name is missing as well; the wrong name says more."""
    path = tmp_path / "wrong.yaml"
    path.write_text(DRIVER.read_text().replace("title: One zone", "titel: One zone"))
    assert "unknown field 'titel'" in refusal(load, path)


def test_json_may_be_indented_with_tabs(load: Load, tmp_path: Path) -> None:
    """A .json file is read as JSON, of which YAML does not take all."""
    path = tmp_path / "tabs.json"
    path.write_text(json.dumps(yaml.safe_load(DRIVER.read_text()), indent="\t"))
    assert load(path).promises == load(DRIVER).promises


@pytest.mark.parametrize("name", ["wrong.txt", "wrong", "wrong.YAML"])
def test_only_files_that_chaos_toolkit_loads_are_taken(load: Load, tmp_path: Path, name: str) -> None:
    """Other endings would be refused by Chaos Toolkit when the run has begun already."""
    path = tmp_path / name
    path.write_text(DRIVER.read_text())
    assert ".yaml, .yml, .json" in refusal(load, path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.yaml", b"title: [MDS", "is not YAML"),
        ("a.yaml", b"title: 2024-13-45", "is not YAML"),
        ("a.yaml", b"title: !!int ''", "is not YAML"),
        ("a.yaml", b"[" * 5000, "is not YAML"),
        ("a.json", b"title: MDS", "is not JSON"),
        ("a.yaml", b"\xff\xfe\xfa", "it is no text"),
        ("a.yaml", b"", "is no mapping"),
        ("a.json", b"[]", "is no mapping"),
    ],
)
def test_a_file_that_is_no_document_is_refused(
    load: Load, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    """Broken YAML, broken JSON, no text and nothing at all are said as what they are."""
    path = tmp_path / name
    path.write_bytes(content)
    assert says in refusal(load, path)


def test_an_argument_may_come_from_the_configuration(load: Load, tmp_path: Path) -> None:
    """Chaos Toolkit fills in a variable in its own type, so the type of its place holder says nothing."""
    path = tmp_path / "variable.yaml"
    document = changed((*BASELINE, "provider", "arguments", "seconds"), "${baseline_s}")
    path.write_text(yaml.safe_dump({**document, "configuration": {"baseline_s": 20}}))
    assert load(path).promises


KEYS = st.sampled_from(["extensions", "method", "rollbacks", HYPOTHESIS, "probes", "provider", "module", "name", "x"])
DOCUMENTS = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.just("faults.actions"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.integers(), inner, max_size=4),
    max_leaves=12,
)


@given(DOCUMENTS)
def test_any_document_is_ours_or_not(document: object) -> None:
    """The question whose an experiment is has an answer for every document."""
    assert is_ours(document) in {True, False}
    if isinstance(document, dict):
        assert all(isinstance(activity, dict) for activity in activities(document))


def test_an_experiment_is_ours_by_its_extension_or_by_a_call(tmp_path: Path) -> None:
    """Either is enough, and a file of others is not ours."""
    call = {"provider": {"type": "python", "module": "faults.actions"}}
    assert is_ours({"extensions": [5, {"name": "lakehouse-chaos"}]})
    assert is_ours({HYPOTHESIS: [], "method": 5, "rollbacks": [call]})
    assert is_ours({HYPOTHESIS: {"probes": [call]}})
    assert not is_ours({"extensions": 5, "method": [{"provider": {"module": ["faults"]}}, {"provider": 5}]})
    (tmp_path / "plain.txt").write_text("title: plain")
    assert not is_ours(read_document(tmp_path / "plain.txt"))
