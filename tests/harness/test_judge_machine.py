"""Cores that others took or that were not there: that clients suffered without them says nothing of the lakehouse."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import BEGAN_MONO, HEALED_S, HEALING_S, INJECTING_S, LOAD_END_S, SyntheticRun

IDLE = 0.4


def shared(run: SyntheticRun, from_s: float, to_s: float, **taken: float) -> None:
    """Watch the machine all the time; from `from_s` to `to_s` others had what `taken` says, else nothing."""
    watched(run, from_s, to_s, {"idle": IDLE}, **taken)


def watched(run: SyntheticRun, from_s: float, to_s: float, always: dict[str, float], **then: float) -> None:
    """Watch the machine all the time; it is as `always` says, and from `from_s` to `to_s` as `then` does."""
    for second in range(1, int(LOAD_END_S) * 2):
        cores = {"region": 1.5, "harness": 0.1, "others": 0.0, "stolen": 0.0} | always
        if from_s < second <= to_s:
            cores |= then
        run.add(second, "machine", seconds=1.0, **cores)


@pytest.fixture
def one_zone(tmp_path: Path) -> SyntheticRun:
    """A run in which one zone is lost and nothing is answered for 7 s."""
    run = SyntheticRun(tmp_path / "run", "S5.mds.one-zone")
    run.fail(40.0, 47.0)
    return run


@pytest.mark.parametrize(
    ("from_s", "to_s", "taken", "word"),
    [
        (50.0, 52.0, {"others": 1.0, "idle": 0.0}, "inconclusive"),
        (50.0, 51.0, {"others": 1.0, "idle": 0.0}, "inconclusive"),
        (50.0, 52.0, {"stolen": 0.5, "idle": 0.0}, "inconclusive"),
        (50.0, 52.0, {"others": 1.0, "idle": 0.9}, "broken"),
        (INJECTING_S, LOAD_END_S, {"others": 0.2, "idle": 0.0}, "broken"),
        (80.0, LOAD_END_S, {"others": 1.0, "idle": 0.0}, "broken"),
    ],
)
def test_an_impact_while_others_took_cores_is_no_proof(
    one_zone: SyntheticRun, from_s: float, to_s: float, taken: dict[str, float], word: str
) -> None:
    """Where the lakehouse wanted them, and while the zone was lost; both are said."""
    shared(one_zone, from_s, to_s, **taken)
    verdict = one_zone.judged()
    assert verdict.verdict == word
    assert "succeeded for 7.1 s" in verdict.reason
    assert "longest gap 7.1 s" in verdict.figure
    assert verdict.evidence["rto"]
    if word == "inconclusive":
        assert "but 20.0 s after the fault others took " in verdict.reason


def test_seconds_that_do_not_follow_each_other_are_no_two(one_zone: SyntheticRun) -> None:
    """Between them a container began or ended, and nothing is known of that second."""
    shared(one_zone, 50.0, 51.0, others=0.9, idle=0.0)
    missing = (BEGAN_MONO + 50, BEGAN_MONO + 52)
    one_zone.events = [one for one in one_zone.events if one["kind"] != "machine" or one["mono"] not in missing]
    verdict = one_zone.judged()
    assert verdict.verdict == "broken", verdict.reason


def test_a_watch_that_ended_early_leaves_it_open(one_zone: SyntheticRun) -> None:
    """Others may have taken the cores when nobody looked; one that was never watched is judged as it is."""
    shared(one_zone, 0.0, 0.0)
    one_zone.events = [one for one in one_zone.events if one["kind"] != "machine" or one["mono"] < BEGAN_MONO + 60]
    verdict = one_zone.judged()
    assert verdict.verdict == "inconclusive"
    assert verdict.reason.endswith("but for 16.0 s nobody looked whose the machine's cores were.")


@pytest.mark.parametrize("impact", [True, False])
def test_a_baseline_in_which_others_took_cores_is_no_measure(one_zone: SyntheticRun, *, impact: bool) -> None:
    """Whatever is compared with it."""
    if not impact:
        one_zone.requests = SyntheticRun(one_zone.folder, one_zone.promise).requests
    shared(one_zone, 10.0, 12.0, others=0.9, idle=0.0)
    verdict = one_zone.judged()
    assert verdict.verdict == "inconclusive"
    assert verdict.reason.startswith("The baseline is no measure: 20.0 s before the fault others took 0.9 of")


@pytest.mark.parametrize("others", [0.9, 0.0])
@pytest.mark.parametrize("promise", ["S5.mds.until", "S5.customer"])
def test_a_recovery_that_did_not_last_while_others_took_cores(tmp_path: Path, promise: str, others: float) -> None:
    """All is well from when the zone returned, but not to the end."""
    run = SyntheticRun(tmp_path / "run", promise, ("zone-a", "zone-b"))
    run.prolong(HEALING_S)
    run.fail(INJECTING_S, HEALED_S)
    run.fail(221, 228)
    shared(run, 219, 221, others=others, idle=0.0)
    verdict = run.judged()
    assert verdict.verdict == ("inconclusive" if others else "broken"), verdict.reason


@pytest.mark.parametrize("others", [0.9, 0.0])
@pytest.mark.parametrize("healing_s", [160.0, HEALING_S])
@pytest.mark.parametrize("engine", ["milvus", "presto"])
def test_an_engine_that_is_not_as_before_while_others_took_cores(
    tmp_path: Path, engine: str, healing_s: float, others: float
) -> None:
    """Neither while the zone is lost, nor, what is asked of Milvus alone, after it returned."""
    promise = {"milvus": "S5.milvus.inflight", "presto": "S5.presto.rescheduled"}[engine]
    run = SyntheticRun(tmp_path / "run", promise, engines=("mds", engine))
    getattr(run, engine)()
    run.prolong(healing_s)
    run.fail(140 if healing_s == 160.0 else 225, 160 if healing_s == 160.0 else 235, engine=engine)
    shared(run, healing_s - 20 if healing_s == 160.0 else 220, 230, others=others, idle=0.0)
    verdict = run.judged()
    if (engine, healing_s) == ("presto", HEALING_S):
        assert verdict.verdict == "held"
    else:
        assert verdict.verdict == ("inconclusive" if others else "broken"), verdict.reason


def test_what_was_lost_is_lost_whoever_had_the_cores(one_zone: SyntheticRun) -> None:
    """An acknowledged write that is not there has nothing to do with them."""
    shared(one_zone, 30.0, 75.0, others=1.0, idle=0.0)
    one_zone.lose("item-10")
    verdict = one_zone.judged()
    assert verdict.verdict == "broken"
    assert "1 acknowledged writes are lost" in verdict.reason


def test_no_impact_all_the_same_holds(tmp_path: Path) -> None:
    """It was harder than it had to be."""
    run = SyntheticRun(tmp_path / "run", "S5.mds.one-zone")
    shared(run, 30.0, 75.0, others=1.0, idle=0.0)
    assert run.judged().verdict == "held"


@pytest.mark.parametrize("promise", ["S5.mds.two-zones", "S5.mds.until"])
@pytest.mark.parametrize("others", [1.0, 0.0])
def test_an_impact_that_is_promised_is_no_proof_either(tmp_path: Path, promise: str, others: float) -> None:
    """What is promised of two zones is that clients suffer by their loss."""
    run = SyntheticRun(tmp_path / "run", promise, ("zone-a", "zone-b"))
    run.fail(INJECTING_S, HEALED_S)
    shared(run, 40.0, 45.0, others=others, idle=0.0)
    verdict = run.judged()
    assert verdict.verdict == ("inconclusive" if others else "held")
    assert "failed" in verdict.figure or "slices" in verdict.figure


@pytest.mark.parametrize("lost", [True, False])
def test_metadata_that_paused_while_others_took_cores(tmp_path: Path, *, lost: bool) -> None:
    """Lost metadata is another matter."""
    run = SyntheticRun(tmp_path / "run", "S5.milvus.active-active", engines=("mds", "milvus"))
    run.milvus()
    run.fail(40.0, 47.0)
    shared(run, 38.0, 40.0, others=0.9, idle=0.0)
    if lost:
        run.lose("p10")
    verdict = run.judged()
    assert verdict.verdict == ("broken" if lost else "inconclusive")
    assert "longest gap" in verdict.figure
    assert "no reads of metadata succeeded for" in verdict.reason.lower()


def full(run: SyntheticRun, idle: float = 0.29) -> SyntheticRun:
    """Leave so much of a core idle in the baseline, and none of it to others; 0.3 are asked for."""
    watched(run, INJECTING_S, LOAD_END_S, {"idle": idle}, idle=0.0)
    return run


@pytest.mark.parametrize(("idle", "word"), [(0.29, "inconclusive"), (0.3, "broken")])
def test_an_impact_on_a_machine_that_was_full_before_is_no_proof(
    one_zone: SyntheticRun, idle: float, word: str
) -> None:
    """It had no room for what a lost zone's pods need to begin."""
    verdict = full(one_zone, idle).judged()
    assert verdict.verdict == word
    said = "; but the machine was full before the fault: 0.29 of a core was idle, and 0.3 must be."
    assert verdict.reason.endswith(said) == (word == "inconclusive")


def test_idle_seconds_of_a_baseline_count_by_their_length(one_zone: SyntheticRun) -> None:
    """Of 28 s nothing was idle but for one sample of four, in which a core was."""
    watched(one_zone, 0.0, 0.0, {"idle": 0.0})
    within = range(int(BEGAN_MONO) + 6, int(BEGAN_MONO) + 10)
    one_zone.events = [one for one in one_zone.events if one["kind"] != "machine" or one["mono"] not in within]
    one_zone.add(9, "machine", seconds=4.0, region=0.9, harness=0.1, others=0.0, stolen=0.0, idle=1.0)
    assert "0.14 of a core was idle" in one_zone.judged().reason


def test_no_impact_on_a_full_machine_holds(tmp_path: Path) -> None:
    """It was harder than it had to be."""
    assert full(SyntheticRun(tmp_path / "run", "S5.mds.one-zone")).judged().verdict == "held"


def test_what_was_lost_is_lost_on_a_full_machine_too(one_zone: SyntheticRun) -> None:
    """An acknowledged write that is not there has nothing to do with cores."""
    full(one_zone).lose("item-10")
    assert one_zone.judged().verdict == "broken"


def test_a_pod_that_waits_for_its_volume_is_not_without_a_node(tmp_path: Path) -> None:
    """One whose volume is in the lost zone waits there in every zone outage, and is none of those that are late."""
    run = full(SyntheticRun(tmp_path / "run", "S5.all.rescheduled"))
    run.without("pod", name="mds-new")
    run.prolong(160)
    run.pod(51, "store-0", None, app="store", bound_to="zone-a", ready=False, unschedulable="volume node affinity")
    assert run.judged().verdict == "inconclusive"


@pytest.mark.parametrize(("acted", "homeless"), [(True, False), (False, True), (False, False)])
def test_pods_that_are_late_on_a_full_machine(tmp_path: Path, *, acted: bool, homeless: bool) -> None:
    """They may have waited for a core; that somebody acted, or that no node takes them, is another matter."""
    run = full(SyntheticRun(tmp_path / "run", "S5.all.rescheduled"))
    run.without("pod", name="mds-new")
    run.prolong(160)
    if acted:
        run.add(100, "runbook.step.begin", "sre", step="scale by hand")
    if homeless:
        run.pod(50, "mds-new", None, ready=False, unschedulable="bound to the lost zone")
    verdict = run.judged()
    assert verdict.verdict == ("broken" if acted or homeless else "inconclusive"), verdict.reason
    assert acted or homeless or verdict.reason.startswith("Mds was not back in time; but the machine was full"), (
        verdict.reason
    )
