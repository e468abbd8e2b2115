"""What a run must show before any promise of it is judged, and what becomes of the harness's own failures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from builders import (
    BASELINE_S,
    BEGAN_MONO,
    HEALED_S,
    INJECTING_S,
    PER_S,
    SyntheticRun,
    project_contract,
    request,
)

from gameday import judge as judging
from gameday.errors import ExitCode
from gameday.judge import Verdict, exit_code, judge, read_verdicts, write_verdicts
from gameday.reading import RunFolder

ONE = ("S5.all.capacity", "S5.all.rescheduled", "S5.mds.one-zone", "S5.customer")
TWO = ("S5.mds.two-zones", "S5.mds.until")
# with four engines under load
ALL = (
    "S5.presto.rescheduled",
    "S5.milvus.active-active",
    "S5.milvus.inflight",
    "S5.spark.driver",
    "S5.spark.executors",
    "S5.spark.elsewhere",
    *ONE,
)


def healthy(folder: Path, *promises: str) -> SyntheticRun:
    """Return a run in which promises are held, of one zone or of two."""
    two = promises[0] in TWO
    engines = ("mds", "presto", "spark", "milvus") if promises[0] in ALL and promises[0] not in ONE else ("mds",)
    run = SyntheticRun(folder, promises[0], ("zone-a", "zone-b") if two else ("zone-a",), engines)
    if "presto" in engines:
        run.presto()
        run.spark()
        run.milvus()
    if two:
        run.fail(INJECTING_S, HEALED_S)
    return run


def not_in_effect(run: SyntheticRun) -> None:
    """Let the effect of the fault not have been seen."""
    run.without("fault.in_effect")
    run.add(32, "fault.not_in_effect", "fault", fault_id="f1", zones=list(run.zones), nodes=[], seen="the port answers")


def in_doubt(run: SyntheticRun) -> None:
    """Let the effect of the fault have been seen, and then not any more."""
    run.add(40, "fault.not_in_effect", "fault", fault_id="f1", zones=list(run.zones), nodes=[], seen="the port answers")


def other_zone(run: SyntheticRun) -> None:
    """Let the effect have been proved for another zone than those in which the fault was injected."""
    for event in run.events:
        if event["kind"] == "fault.in_effect":
            event["zones"] = ["zone-a", "zone-b", "zone-c"][1 : len(run.zones)] or ["zone-c"]


def silent(run: SyntheticRun) -> None:
    """Let nothing be due for 6 s during the fault."""
    run.requests = [one for one in run.requests if not 50 <= one.intended - BEGAN_MONO < 56]


def thin(run: SyntheticRun) -> None:
    """Let one operation in ten be missing during the fault."""
    run.requests = [
        one for number, one in enumerate(run.requests) if number % 10 or one.intended < BEGAN_MONO + INJECTING_S
    ]


def another_fault(run: SyntheticRun) -> None:
    """Let another fault be injected beside the first."""
    run.add(40, "fault.injecting", "fault", fault="zone-drain", fault_id="f2", zones=["zone-c"], nodes=["eu-zone-c"])


SPOILT: dict[str, tuple[Callable[[SyntheticRun], object], str]] = {
    "no fault": (lambda run: run.without("fault.injecting"), "no fault was injected"),
    "no proof": (lambda run: run.without("fault.in_effect"), "not proved to be in effect"),
    "proof of the contrary": (not_in_effect, "not proved to be in effect: the port answers"),
    "proof in doubt": (in_doubt, "not proved to be in effect: the port answers"),
    "proof of another zone": (other_zone, "not proved to be in effect"),
    "proof too late": (lambda run: run.move("fault.in_effect", HEALED_S), "only after it began to be healed"),
    "no second proof": (lambda run: run.without("fault.still_in_effect"), "not proved to have lasted"),
    "second proof too late": (lambda run: run.move("fault.still_in_effect", HEALED_S), "not proved to have lasted"),
    "another fault": (another_fault, "several faults"),
    "fault outlasts the load": (lambda run: run.without("fault.healing"), "outlasted the load"),
    "load was cut short": (lambda run: run.without("load.end"), "the load did not run to its end"),
    "run was cut short": (lambda run: run.without("run.end"), "the run did not come to its end"),
    "nothing was due": (silent, "was due for 6."),
    "too little was due": (thin, "a second, declared are"),
    "no baseline": (lambda run: run.without("phase.begin"), "no complete baseline"),
    "baseline in the fault": (lambda run: run.move("phase.end", 31), "the baseline did not end before the fault"),
    "refused": (lambda run: run.add(1, "preflight.failed", message="it is not whole"), "it is not whole."),
    "no requests": (lambda run: run.requests.clear(), "no recorded operation"),
}


@pytest.mark.parametrize("promises", [ONE, TWO, ALL])
def test_a_healthy_run_holds(tmp_path: Path, promises: tuple[str, ...]) -> None:
    """What the following tests spoil is held as long as it is not spoilt."""
    for verdict in healthy(tmp_path / "run", *promises).judged_on(*promises):
        assert verdict.verdict == "held", verdict.reason
        assert verdict.figure
        assert verdict.bound
        assert {"rto", "rpo"} <= set(verdict.evidence)


def test_a_fault_whose_end_cuts_a_burst_off_had_the_declared_load(tmp_path: Path) -> None:
    """Twelve of the sixteen operations of a second are due at one moment, as those of a query that is planned."""
    run = healthy(tmp_path / "run", *ONE)
    moments = (0.1, 0.3, 0.5, 0.7, *[0.95] * 12)
    run.requests = [request(second + moment) for second in range(120) for moment in moments]
    for kind, at_s in (("fault.still_in_effect", 54.8), ("fault.healing", 54.9), ("fault.healed", 59)):
        run.move(kind, at_s)
    for verdict in run.judged_on(*ONE):
        assert verdict.verdict == "held", verdict.reason


@pytest.mark.parametrize("promises", [ONE, TWO, ALL])
@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_run_that_does_not_show_its_situation_is_inconclusive(
    tmp_path: Path, promises: tuple[str, ...], spoilt: str
) -> None:
    """No promise is held, nor broken, by a run in which fault, load or baseline were not as they should be."""
    spoil, reason = SPOILT[spoilt]
    run = healthy(tmp_path / "run", *promises)
    spoil(run)
    verdicts = run.judged_on(*promises)
    assert len(verdicts) == len(promises)
    for verdict in verdicts:
        assert verdict.verdict == "inconclusive"
        assert reason in verdict.reason.lower()


@pytest.mark.parametrize("promises", [("S5.mds.one-zone", "S5.customer"), TWO, ALL[:1]])
def test_an_unhealthy_baseline_is_nothing_to_compare_with(tmp_path: Path, promises: tuple[str, ...]) -> None:
    """A service that failed before the fault says nothing of it."""
    run = healthy(tmp_path / "run", *promises)
    run.fail(10, 10.5)
    for verdict in run.judged_on(*promises):
        assert verdict.verdict == "inconclusive"
        assert "not healthy before the fault" in verdict.reason


@pytest.mark.parametrize(("latency_s", "verdict"), [(0.95, "held"), (1.05, "inconclusive")])
def test_a_baseline_as_slow_as_an_outage_is_nothing_to_compare_with(
    tmp_path: Path, latency_s: float, verdict: str
) -> None:
    """Three times of what counts as an outage would allow one: a contract's `slow_after_s` is where that begins."""
    run = healthy(tmp_path / "run", "S5.mds.one-zone")
    run.requests = [replace(one, ended=one.intended + latency_s) for one in run.requests]
    (found,) = run.judged_on("S5.mds.one-zone")
    assert found.verdict == verdict, found.reason
    if verdict == "inconclusive":
        assert "not healthy before the fault: the 95th percentile of latency was 1.1 s" in found.reason


def test_a_baseline_of_few_operations_is_nothing_to_compare_with(tmp_path: Path) -> None:
    """Less than 100 are too few for a percentile, also if the load was as declared."""
    run = healthy(tmp_path / "run", "S5.mds.one-zone")
    for event in run.events:
        if event["kind"] == "phase.begin":
            event["mono"] = BEGAN_MONO + 29 - 96 / PER_S
    verdict = run.judged()
    assert verdict.verdict == "inconclusive"
    assert "96 operations, too few" in verdict.reason


def test_what_was_in_flight_at_the_injection_is_no_baseline(tmp_path: Path) -> None:
    """It was slow for the fault, and would make what is compared with it look like no impact."""
    run = healthy(tmp_path / "run", "S5.mds.one-zone")
    run.slow(27, 28, 1.9, engine="mds")
    run.slow(28, 29, 4.0, engine="mds")
    due = [one.intended - BEGAN_MONO for one in RunFolder(run.save()).baseline_of("mds")]
    begin, end = BASELINE_S
    assert (min(due) >= begin, max(due) < end - 1, len(due)) == (True, True, (end - 1 - begin) * PER_S)


def test_a_probe_may_ask_before_the_run_has_ended(tmp_path: Path) -> None:
    """As long as it says so."""
    run = healthy(tmp_path / "run", "S5.mds.one-zone")
    run.without("run.end")
    assert run.judged(running=True).verdict == "held"


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda _: None, "harness error"),
        (lambda run: run.without("fault.in_effect"), "harness error"),
        (lambda run: run.fail(40, 60), "broken"),
    ],
)
def test_an_error_of_the_harness_leaves_nothing_but_broken(
    tmp_path: Path, spoil: Callable[[SyntheticRun], object], word: str
) -> None:
    """A run in which the harness failed is no proof, and an answer that is missing is its fault; broken was broken."""
    run = healthy(tmp_path / "run", "S5.mds.one-zone")
    spoil(run)
    run.add(100, "error", where="provider", message="no answer")
    verdict = run.judged()
    assert verdict.verdict == word
    assert (verdict.reason == "The harness failed in the run: provider: no answer") == (word == "harness error")


def test_a_checker_that_crashes_is_an_error_of_the_harness(tmp_path: Path) -> None:
    """A capacity event without its nodes is no reason to raise, and the text of the exception is told."""
    run = healthy(tmp_path / "run", "S5.all.capacity")
    run.without("capacity")
    run.add(29.5, "capacity", assigned=[])
    run.events[-1]["assigned"] = [{"node": "eu-zone-a", "formation": "mds"}]
    verdict = run.judged()
    assert verdict.verdict == "harness error"
    assert verdict.reason.startswith("The checker failed: KeyError")


@pytest.mark.parametrize("file", ["requests-1.jsonl", "timeline.jsonl"])
def test_lines_that_are_no_json_are_an_error_of_the_harness(tmp_path: Path, file: str) -> None:
    """Evidence was there and cannot be read."""
    folder = healthy(tmp_path / "run", "S5.mds.one-zone").save()
    (folder / file).write_text("{\nnonsense\n")
    (verdict,) = judge(folder, project_contract())
    assert verdict.verdict == "harness error"


def test_a_folder_in_which_everything_is_missing_has_no_verdict(tmp_path: Path) -> None:
    """And counts as inconclusive; with nothing but its meta.json, each of its promises is."""
    contract = project_contract()
    assert judge(tmp_path / "missing", contract) == []
    assert exit_code([]) == ExitCode.INCONCLUSIVE
    (tmp_path / "meta.json").write_text(json.dumps({"promises": [*ALL, *TWO, "S1.customer", "S9.none"]}))
    verdicts = judge(tmp_path, contract)
    assert [one.promise for one in verdicts] == [*ALL, *TWO, "S1.customer", "S9.none"]
    assert {one.verdict for one in verdicts} == {"inconclusive"}
    assert all(one.reason for one in verdicts)


def test_verdicts_survive_being_written_and_read(tmp_path: Path) -> None:
    """The file holds all that the judge said."""
    given = [healthy(tmp_path / "run", "S5.mds.one-zone").judged(), Verdict("S5.customer", "broken", reason="“so”")]
    write_verdicts(tmp_path, given)
    found = read_verdicts(tmp_path)
    assert [(one.promise, one.verdict, one.figure, one.bound, one.reason) for one in found] == [
        (one.promise, one.verdict, one.figure, one.bound, one.reason) for one in given
    ]
    assert found[0].evidence["rto"] == given[0].evidence["rto"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["held", "held"], ExitCode.HELD),
        (["held", "inconclusive"], ExitCode.INCONCLUSIVE),
        (["inconclusive", "harness error"], ExitCode.HARNESS_ERROR),
        (["harness error", "broken", "held"], ExitCode.BROKEN),
    ],
)
def test_the_worst_verdict_is_the_exit_code(words: list[judging.Word], code: ExitCode) -> None:
    """Only held all over is 0."""
    assert exit_code([Verdict("S5.customer", word) for word in words]) == code


def test_a_customer_step_breaks_the_promise_that_there_is_none(tmp_path: Path) -> None:
    """At any time after the fault; a step of SRE or the provider is told and breaks nothing."""
    for actor, at_s, word in (("sre", 60, "held"), ("customer", 110, "broken"), ("customer", 5, "held")):
        run = SyntheticRun(tmp_path / f"{actor}-{at_s}", "S5.customer")
        run.add(at_s, "runbook.step.begin", actor, step="provision")
        verdict = run.judged()
        assert verdict.verdict == word
        assert verdict.evidence["provider_acts"] == ["node-removed eu-zone-a"]
        assert verdict.evidence["sre_steps"] == (["provision"] if actor == "sre" else [])


def test_without_a_recovery_no_customer_step_is_not_held(tmp_path: Path) -> None:
    """A load that ended before the deadline leaves it open."""
    run = SyntheticRun(tmp_path / "run", "S5.customer")
    run.fail(INJECTING_S, 115)
    assert run.judged().verdict == "inconclusive"


@pytest.mark.parametrize("engine", ["mds", "presto", "spark"])
def test_no_customer_step_is_held_only_if_every_engine_recovered(tmp_path: Path, engine: str) -> None:
    """With three under load, one that is not back by the deadline breaks it and is named."""
    run = SyntheticRun(tmp_path / "run", "S5.customer", engines=("mds", "presto", "spark"))
    run.prolong(HEALED_S + 20)
    assert run.judged().verdict == "held"
    run.folder = tmp_path / "again"
    run.fail(INJECTING_S, 235, engine=engine)
    verdict = run.judged()
    assert verdict.verdict == "broken"
    assert verdict.reason.lower() == f"{engine} did not recover within 120.0 s."
    recovered = verdict.evidence["recovered_after_healing_s"]
    assert [name for name, moment in recovered.items() if moment is None] == [engine]


@pytest.mark.parametrize("latency_s", [None, 0.9])
def test_a_recovery_that_does_not_last_is_none(tmp_path: Path, latency_s: float | None) -> None:
    """Ten good seconds after the zone returned, and then failures or answers many times slower until the load ends."""
    run = SyntheticRun(tmp_path / "run", "S5.customer")
    run.prolong(HEALED_S)
    if latency_s is None:
        run.fail(HEALED_S + 12, 240)
    else:
        run.slow(HEALED_S + 12, 240, latency_s)
    verdict = run.judged()
    assert verdict.verdict == "broken"
    assert verdict.reason == "Mds did not recover within 120.0 s."


def test_what_another_zone_s_return_does_is_no_matter_of_a_recovery(tmp_path: Path) -> None:
    """Its pods begin beside those that serve."""
    run = SyntheticRun(tmp_path / "run", "S5.customer", ("zone-a", "zone-b"))
    run.prolong(HEALED_S)
    run.slow(HEALED_S + 40, 240, 0.9)
    assert run.judged().verdict == "broken"
    run.folder = tmp_path / "again"
    run.add(HEALED_S + 40, "fault.healing", "fault", fault_id="f1", zones=["zone-b"], nodes=["eu-zone-b"])
    assert run.judged().verdict == "held"


@pytest.mark.parametrize(("promise", "zones"), [("S5.mds.one-zone", 1), ("S5.mds.two-zones", 2), ("S5.customer", 1)])
@pytest.mark.parametrize(("begin_s", "length_s"), [(40, 2.3), (40, 1.9), (40, 6.0), (10, 2.3)])
def test_a_load_that_was_late_itself_says_nothing_of_latency(
    tmp_path: Path, promise: str, zones: int, begin_s: float, length_s: float
) -> None:
    """What it sent too late is not the service's; up to two seconds, once, change little."""
    run = SyntheticRun(tmp_path / "run", promise, ("zone-a", "zone-b")[:zones])
    if zones > 1:
        run.fail(INJECTING_S, HEALED_S)
    begin, end = BEGAN_MONO + begin_s, BEGAN_MONO + begin_s + length_s
    run.alter(begin_s, begin_s + length_s, lambda one: replace(one, started=end, ended=one.ended - one.intended + end))
    verdict = run.judged()
    assert verdict.verdict == "inconclusive" if length_s > 2 else verdict.verdict == "held", (begin, verdict.reason)
    assert length_s < 2 or "was itself late in the " + ("fault" if begin_s > 30 else "baseline") in verdict.reason


@pytest.mark.parametrize(("engine", "word"), [("presto", "held"), ("spark", "inconclusive")])
def test_each_engine_is_slow_by_its_own_limit(tmp_path: Path, engine: str, word: str) -> None:
    """Queries of Presto that always take 1.5 s are well; operations of Spark that do are no recovery."""
    run = SyntheticRun(tmp_path / "run", "S5.customer", engines=("mds", "presto", "spark"))
    run.slow(0, 120, 1.5, engine=engine)
    verdict = run.judged()
    assert verdict.verdict == word
    outages = verdict.evidence["rto"][engine]["outages"] if word == "held" else []
    assert outages == []
