"""What clients saw, judged: no impact of one zone, impact of two, and impact until one returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from builders import (
    BEGAN_MONO,
    HEALED_S,
    HEALING_S,
    IN_EFFECT_S,
    INJECTING_S,
    LATENCY_S,
    LOAD_END_S,
    PER_S,
    SyntheticRun,
)

TWO = ("zone-a", "zone-b")
NO_IMPACT_OPERATIONS = int((HEALING_S - INJECTING_S) * PER_S)


@pytest.fixture
def one_zone(tmp_path: Path) -> SyntheticRun:
    """A run in which one zone is lost and clients see nothing of it."""
    return SyntheticRun(tmp_path / "run", "S5.mds.one-zone")


@pytest.fixture
def two_zones(tmp_path: Path) -> SyntheticRun:
    """A run in which two zones are lost and one in ten operations fails until they return."""
    run = SyntheticRun(tmp_path / "run", "S5.mds.two-zones", TWO)
    impacted(run, INJECTING_S, HEALED_S)
    return run


@pytest.fixture
def until(two_zones: SyntheticRun) -> SyntheticRun:
    """The same run, asked for the end of the impact."""
    two_zones.promise = "S5.mds.until"
    return two_zones


def impacted(run: SyntheticRun, from_s: float, to_s: float) -> None:
    """Let one operation in every ten fail."""
    number = iter(range(10**6))
    run.alter(from_s, to_s, lambda one: replace(one, outcome="error") if next(number) % 10 == 0 else one)


def test_one_zone_without_impact_holds(one_zone: SyntheticRun) -> None:
    """The figures, the bounds, RTO and RPO are in the verdict."""
    verdict = one_zone.judged()
    assert (verdict.verdict, verdict.variant) == ("held", "synthetic")
    assert verdict.figure == (
        f"0 of {NO_IMPACT_OPERATIONS} failed, longest gap 62 ms, p95 50 ms (baseline 50 ms), "
        "0 of 59 acknowledged writes lost"
    )
    assert "0.1 % fail" in verdict.bound
    assert "= 350 ms" in verdict.bound
    assert verdict.evidence["rto"]["mds"] == {"rto_s": 0.0, "rto_resolution_s": 1 / PER_S, "outages": []}
    assert verdict.evidence["rpo"]["mds"]["rpo_s"] == 0
    assert verdict.evidence["lost_pods"] == ["mds-zone-a"]


def test_one_failure_more_than_the_bound_allows_breaks_no_impact(tmp_path: Path) -> None:
    """In the 720 operations of the window a share of 0.001 allows none; in 1,000 it allows one and no second."""
    for fails, healing_s, word in ((0, 75, "held"), (1, 75, "broken"), (1, 92.5, "held"), (2, 92.5, "broken")):
        run = SyntheticRun(tmp_path / f"{fails}-{healing_s}", "S5.mds.one-zone")
        run.move("fault.healing", healing_s)
        run.move("fault.healed", healing_s + 5)
        run.fail(40, 60, count=fails)
        verdict = run.judged()
        assert verdict.verdict == word, verdict
        assert verdict.figure.startswith(f"{fails} of {int((healing_s - INJECTING_S) * PER_S)} failed")


def test_what_fails_outside_of_the_fault_is_no_impact_of_it(one_zone: SyntheticRun) -> None:
    """Neither before the injection nor after the zone began to return."""
    one_zone.fail(29.2, 29.8)
    one_zone.fail(HEALING_S, HEALING_S + 5)
    assert one_zone.judged().verdict == "held"


def test_what_was_in_flight_at_the_injection_belongs_to_the_fault(one_zone: SyntheticRun) -> None:
    """An operation that was due just before, and failed just after, counts."""
    failing = one_zone.requests[int(29.9 * PER_S)]
    late = replace(failing, outcome="error", ended=BEGAN_MONO + INJECTING_S + 2)
    one_zone.requests[one_zone.requests.index(failing)] = late
    assert one_zone.judged().verdict == "broken"


@pytest.mark.parametrize(("slow", "word"), [(36, "held"), (37, "broken")])
def test_latency_is_held_against_the_baseline_of_the_run(one_zone: SyntheticRun, slow: int, word: str) -> None:
    """Of 720 operations 36 may take longer than three times the baseline and 200 ms, the next one may not."""
    one_zone.slow(40, 60, 3 * LATENCY_S + 0.201, count=slow)
    assert one_zone.judged().verdict == word


@pytest.mark.parametrize(("gap_s", "word"), [(4.8, "held"), (5.1, "broken")])
def test_a_gap_between_successes_breaks_no_impact(one_zone: SyntheticRun, gap_s: float, word: str) -> None:
    """Operations are due all the time, but none that was due in this time is answered before its end."""
    end = BEGAN_MONO + 40 + gap_s
    one_zone.alter(40, 40 + gap_s, lambda one: replace(one, ended=max(end, one.ended), outcome="ok"))
    impact = one_zone.judged().evidence["impact"]
    assert impact["longest_gap_s"] == pytest.approx(gap_s, abs=0.1)
    assert any("nothing succeeded for" in text for text in impact["exceeded"]) == (word == "broken")


def test_a_lost_acknowledged_write_breaks_no_impact_and_is_dated(one_zone: SyntheticRun) -> None:
    """RPO reaches from the oldest lost acknowledgement to the fault; what was never acknowledged is not lost."""
    one_zone.write("unknown", "in-doubt", 31)
    one_zone.lose("item-20", "item-40", "in-doubt")
    verdict = one_zone.judged()
    assert verdict.verdict == "broken"
    assert "2 of 59 acknowledged writes lost" in verdict.figure
    rpo = verdict.evidence["rpo"]["mds"]
    assert rpo["rpo_s"] == 10
    assert rpo["lost_items"] == [
        {"item": "table/item-20", "acknowledged_at_s": -10.0},
        {"item": "table/item-40", "acknowledged_at_s": 10.0},
    ]


def test_what_nobody_wrote_or_what_was_rejected_is_counted_as_unexpected(one_zone: SyntheticRun) -> None:
    """It is told and breaks no promise on loss."""
    one_zone.write("rejected", "refused", 31)
    one_zone.read_back[0].items.extend(["refused", "strange"])
    verdict = one_zone.judged()
    assert verdict.verdict == "held"
    assert verdict.evidence["rpo"]["mds"]["unexpected_items"] == ["table/refused", "table/strange"]


def no_read_back(run: SyntheticRun) -> None:
    """Take the read-back away."""
    run.read_back = []


def early_read_back(run: SyntheticRun) -> None:
    """Let the read-back have been made while the zone was lost."""
    run.read_back = [replace(one, mono=BEGAN_MONO + 60) for one in run.read_back]


def unread_place(run: SyntheticRun) -> None:
    """Let the place of the writes be one that could not be read."""
    run.read_back = [replace(one, items=[], error="HTTP 500") for one in run.read_back]


def no_writes(run: SyntheticRun) -> None:
    """Let nothing have been acknowledged."""
    run.ledger = [entry for entry in run.ledger if entry.state == "attempted"]


@pytest.mark.parametrize("spoil", [no_read_back, early_read_back, unread_place, no_writes])
def test_without_writes_read_back_nobody_knows_that_none_is_lost(
    one_zone: SyntheticRun, spoil: Callable[[SyntheticRun], None]
) -> None:
    """No impact is inconclusive then."""
    spoil(one_zone)
    assert one_zone.judged().verdict == "inconclusive"


def test_an_impact_is_broken_also_without_a_read_back(one_zone: SyntheticRun) -> None:
    """What clients saw stands by itself."""
    no_read_back(one_zone)
    one_zone.fail(40, 41)
    verdict = one_zone.judged()
    assert verdict.verdict == "broken"
    assert verdict.evidence["rpo"]["mds"]["rpo_s"] is None


def test_a_zone_that_held_no_ready_pod_was_no_loss_to_the_engine(one_zone: SyntheticRun) -> None:
    """The situation named by the promise did not occur."""
    one_zone.pod(20, "mds-zone-a", "zone-a", ready=False)
    verdict = one_zone.judged()
    assert verdict.verdict == "inconclusive"
    assert "held no ready pod of mds" in verdict.reason


def test_a_promise_on_one_zone_is_not_answered_by_two_nor_the_other_way_round(tmp_path: Path) -> None:
    """Each situation answers its own promise."""
    for promise, zones in (("S5.mds.one-zone", TWO), ("S5.mds.two-zones", TWO[:1]), ("S5.mds.until", TWO[:1])):
        run = SyntheticRun(tmp_path / promise, promise, zones)
        run.fail(INJECTING_S, HEALED_S)
        assert run.judged().verdict == "inconclusive"


def test_two_zones_with_impact_hold(two_zones: SyntheticRun) -> None:
    """RTO is measured from the first failure to the first sustained success, and its resolution stated."""
    verdict = two_zones.judged()
    assert verdict.verdict == "held"
    rto = verdict.evidence["rto"]["mds"]
    assert rto["rto_s"] == pytest.approx(HEALED_S - INJECTING_S, abs=10 / PER_S)
    assert rto["rto_resolution_s"] == 1 / PER_S


def test_two_zones_without_impact_are_broken(tmp_path: Path) -> None:
    """Impact before both zones were proved lost, or after one began to return, does not count."""
    run = SyntheticRun(tmp_path / "run", "S5.mds.two-zones", TWO)
    run.fail(INJECTING_S, IN_EFFECT_S)
    run.fail(HEALING_S, HEALED_S)
    verdict = run.judged()
    assert verdict.verdict == "broken"
    assert "clients saw no impact" in verdict.reason


def test_impact_until_a_zone_returned_holds(until: SyntheticRun) -> None:
    """Every slice of 10 s was impacted, and the service recovered after."""
    verdict = until.judged()
    assert verdict.verdict == "held"
    assert verdict.figure == "4 of 4 slices of 10.0 s impacted, recovered 4.5 s after a zone began to return"
    assert verdict.evidence["usable_after_healing_s"] == 5


def test_a_service_that_is_back_before_any_zone_breaks_until(tmp_path: Path) -> None:
    """One slice without impact is enough, also where impact comes again."""
    run = SyntheticRun(tmp_path / "run", "S5.mds.until", TWO)
    impacted(run, INJECTING_S, IN_EFFECT_S + 20)
    impacted(run, IN_EFFECT_S + 30, HEALED_S)
    verdict = run.judged()
    assert verdict.verdict == "broken"
    assert verdict.figure.startswith("3 of 4 slices")
    assert "from 20 s after both zones were lost" in verdict.reason


def test_a_calm_time_counts_wherever_it_begins(tmp_path: Path) -> None:
    """Each slice has something that fails, and between those are sixteen seconds without impact."""
    run = SyntheticRun(tmp_path / "run", "S5.mds.until", TWO)
    for begin_s, end_s in ((INJECTING_S, 33), (49, 53), (69, HEALED_S)):
        impacted(run, begin_s, end_s)
    verdict = run.judged()
    assert verdict.figure.startswith("4 of 4 slices")
    assert verdict.verdict == "broken"
    assert "clients saw no impact from 2 s after both zones were lost" in verdict.reason.lower()


def lasting(run: SyntheticRun, load_end_s: float) -> None:
    """Let the load last longer, with impact to its end."""
    run.requests += [
        replace(run.requests[0], intended=BEGAN_MONO + at, started=BEGAN_MONO + at, ended=BEGAN_MONO + at + LATENCY_S)
        for at in (number / PER_S for number in range(int(LOAD_END_S * PER_S), int(load_end_s * PER_S)))
    ]
    impacted(run, HEALED_S, load_end_s)
    run.move("load.end", load_end_s)
    run.move("run.end", load_end_s + 1)
    run.read_back = [replace(one, mono=BEGAN_MONO + load_end_s + 0.5) for one in run.read_back]


@pytest.mark.parametrize(("load_end_s", "word"), [(HEALED_S + 121, "broken"), (HEALED_S + 60, "inconclusive")])
def test_a_service_that_is_not_back_at_the_deadline_breaks_until(
    until: SyntheticRun, load_end_s: float, word: str
) -> None:
    """A load that ended before the deadline leaves it open."""
    lasting(until, load_end_s)
    assert until.judged().verdict == word


def test_a_recovery_counts_only_if_success_was_sustained_by_the_deadline(until: SyntheticRun) -> None:
    """Back for 9 s before the load ended is not back."""
    until.fail(HEALED_S, LOAD_END_S - 9)
    assert until.judged().verdict == "inconclusive"


def test_success_that_is_too_slow_is_no_recovery(until: SyntheticRun) -> None:
    """Latency must be within the bounds of no impact too."""
    until.slow(HEALED_S, LOAD_END_S, 0.5)
    assert until.judged().verdict == "inconclusive"


def test_zones_that_were_lost_for_less_than_a_slice_say_nothing_of_until(until: SyntheticRun) -> None:
    """A recovery could not have been seen in that time."""
    until.move("fault.healing", IN_EFFECT_S + 9)
    assert until.judged().verdict == "inconclusive"


def test_the_first_zone_that_returns_is_the_one_that_counts(until: SyntheticRun) -> None:
    """The second one returning later changes nothing."""
    again = {"fault": "zone-power-loss", "fault_id": "f1", "zones": ["zone-b"], "nodes": ["eu-zone-b"]}
    until.add(110, "fault.healing", "fault", **again)
    until.add(115, "fault.healed", "fault", **again)
    assert until.judged().verdict == "held"
