"""Recorded runs of a real lakehouse, judged again: their verdicts stay, and none is held without its evidence."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gameday.contract import load_contract
from gameday.judge import Verdict, judge
from gameday.paths import PROJECT

RUNS = {path.parent.name: path.parent for path in sorted(Path(__file__).parent.glob("runs/*/expected.json"))}
RECORDED = {
    "all-held-executors-lost",
    "cluster-full-and-wrong-result",
    "executors-not-replaced",
    "full-machine",
    "mds-two-zones-one-returns",
    "presto-bound-to-the-lost-zone",
}
type Lose = Callable[[Path], None]


def expected_of(folder: Path) -> dict[str, dict[str, str]]:
    """Return of each promise of a recorded run its `verdict`, and some of what the judge `says` of it."""
    found: dict[str, dict[str, str]] = json.loads((folder / "expected.json").read_text())["promises"]
    return found


def judged(folder: Path) -> dict[str, Verdict]:
    """Judge a recorded run by the project's contract, with the time for a recovery that the run had."""
    contract = load_contract(PROJECT / "contract.yaml")
    deadline_s = json.loads((folder / "expected.json").read_text())["recovery_deadline_s"]
    recovery = contract.recovery.model_copy(update={"deadline_s": deadline_s})
    verdicts = judge(folder, contract.model_copy(update={"recovery": recovery}))
    return {verdict.promise: verdict for verdict in verdicts}


def is_held(folder: Path) -> bool:
    """Tell whether all that a recorded run is about held."""
    return {one["verdict"] for one in expected_of(folder).values()} == {"held"}


def without_files(pattern: str) -> Lose:
    """Return what deletes files of a run folder."""

    def lose(folder: Path) -> None:
        found = list(folder.glob(pattern))
        assert found
        for path in found:
            path.unlink()

    return lose


def without_events(kind: str, **fields: str) -> Lose:
    """Return what takes all events of a kind with these fields out of a timeline."""

    def goes(event: dict[str, Any]) -> bool:
        return event["kind"] == kind and all(event.get(name) == value for name, value in fields.items())

    def lose(folder: Path) -> None:
        timeline = folder / "timeline.jsonl"
        before = timeline.read_text().splitlines(keepends=True)
        after = [line for line in before if not goes(json.loads(line))]
        assert len(after) < len(before)
        timeline.write_text("".join(after))

    return lose


# What a run may have lost, and the promises that nobody can say to have held then.
LOST: dict[str, tuple[Lose, str]] = {
    "requests": (without_files("requests-*.jsonl"), ".*"),
    "the proof of the fault": (without_events("fault.in_effect"), ".*"),
    "the proof at its end": (without_events("fault.still_in_effect"), ".*"),
    "when it was healed": (without_events("fault.healing"), ".*"),
    "the baseline": (without_events("phase.begin", phase="baseline"), ".*"),
    "the begin of the loads": (without_events("load.begin"), ".*"),
    "the end of the loads": (without_events("load.end"), ".*"),
    "its own end": (without_events("run.end"), ".*"),
    "queries, searches and jobs": (without_files("workloads-*.jsonl"), r"S5\.(presto|spark)\..*|S5\.milvus\.inflight"),
    "what was acknowledged": (without_files("ledger-*.jsonl"), r"S5\.(mds\.one-zone|milvus\.active-active)"),
    "what was read back": (without_files("readback.jsonl"), r"S5\.(mds\.one-zone|milvus\.active-active)"),
    "pods": (without_events("pod"), r"S5\.(all\.rescheduled|(mds|presto|spark|milvus)\.(?!two-zones|until).*)"),
    "what nodes have and hold": (without_events("capacity"), r"S5\.all\.capacity"),
}


def test_no_recorded_run_went_missing() -> None:
    """Tests of each run there is would pass without any."""
    assert set(RUNS) == RECORDED
    found = {one["verdict"] for folder in RUNS.values() for one in expected_of(folder).values()}
    assert found == {"held", "broken", "inconclusive"}


@pytest.mark.parametrize("name", RUNS)
def test_a_recorded_run_is_judged_as_it_was(name: str) -> None:
    """The verdict on every promise, and what is said of it."""
    expected, found = expected_of(RUNS[name]), judged(RUNS[name])
    said = {promise: f"{one.figure} {one.reason}" for promise, one in found.items()}
    assert {promise: one.verdict for promise, one in found.items()} == {
        promise: one["verdict"] for promise, one in expected.items()
    }, said
    assert not [promise for promise, one in expected.items() if one["says"] not in said[promise]], said


def concerned(name: str, lost: str) -> set[str]:
    """Return the promises of a recorded run about which nothing can be said without what was lost."""
    return {promise for promise in expected_of(RUNS[name]) if re.fullmatch(LOST[lost][1], promise)}


HELD = [name for name, folder in RUNS.items() if is_held(folder)]


@pytest.mark.parametrize(("name", "lost"), [(name, lost) for name in HELD for lost in LOST if concerned(name, lost)])
def test_without_its_evidence_nothing_is_held(name: str, lost: str, tmp_path: Path) -> None:
    """Whatever a run has lost: what rests on it is inconclusive, and broken just as little; the rest stays held."""
    folder = shutil.copytree(RUNS[name], tmp_path / "run")
    LOST[lost][0](folder)
    open_ = concerned(name, lost)
    assert {promise: one.verdict for promise, one in judged(folder).items()} == {
        promise: "inconclusive" if promise in open_ else "held" for promise in expected_of(RUNS[name])
    }
