"""Milvus in a zone outage, judged: metadata goes on, searches in flight fail, and all is as before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from builders import BEGAN_MONO, HEALING_S, IN_EFFECT_S, INJECTING_S, SyntheticRun

from gameday.records import Request

pytestmark = pytest.mark.needs("milvus")

ACTIVE, INFLIGHT = "S5.milvus.active-active", "S5.milvus.inflight"
GAP_S, DEADLINE_S, FAILS_WITHIN_S, SUSTAINED_S = 5.0, 120, 60, 10


@pytest.fixture
def milvus(tmp_path: Path) -> SyntheticRun:
    """A run in which both promises are held."""
    run = SyntheticRun(tmp_path / "run", ACTIVE, engines=("mds", "milvus"))
    run.milvus()
    return run


def fail_only(run: SyntheticRun, operation: str, from_s: float, to_s: float) -> None:
    """Let the operations of one name fail."""

    def failed(one: Request) -> Request:
        return replace(one, outcome="error", error="code 1") if one.operation == operation else one

    run.alter(from_s, to_s, failed, engine="milvus")


def test_metadata_that_goes_on_holds(milvus: SyntheticRun) -> None:
    """Reads, writes and the loss are in the figure, and which members were lost in the reason."""
    verdict = milvus.judged()
    assert verdict.verdict == "held", verdict.reason
    assert verdict.figure == (
        "reads: 0 of 45 failed, longest gap 1.0 s; writes: 0 of 45 failed, longest gap 1.0 s; "
        "0 of 59 acknowledged writes lost"
    )
    assert verdict.reason == "Metadata went on without etcd-zone-a."


@pytest.mark.parametrize("operation", ["describe_collection", "create_partition"])
@pytest.mark.parametrize(("until_s", "word"), [(3.5, "held"), (4.5, "broken")])
def test_neither_reads_nor_writes_may_pause_for_long(
    milvus: SyntheticRun, operation: str, until_s: float, word: str
) -> None:
    """They come once a second, so that a second more is a gap of more than five."""
    fail_only(milvus, operation, INJECTING_S, INJECTING_S + until_s)
    verdict = milvus.judged()
    assert verdict.verdict == word, verdict.figure
    assert word == "held" or "of metadata succeeded for 5." in verdict.reason


@pytest.mark.parametrize("operation", ["describe_collection", "create_partition"])
@pytest.mark.parametrize(("at_s", "word"), [(INJECTING_S + 3, "held"), (INJECTING_S + GAP_S + 1, "broken")])
def test_a_failure_later_than_that_breaks_it(milvus: SyntheticRun, operation: str, at_s: float, word: str) -> None:
    """One that was in flight in the lost zone may fail; one in forty that is asked for later is too many."""
    fail_only(milvus, operation, at_s, at_s + 1)
    assert milvus.judged().verdict == word


def test_other_operations_are_no_metadata(milvus: SyntheticRun) -> None:
    """Searches that fail say nothing of it."""
    fail_only(milvus, "search", INJECTING_S, HEALING_S)
    assert milvus.judged().verdict == "held"


@pytest.mark.parametrize("lost", ["p10", "p60"])
def test_a_lost_partition_breaks_it(milvus: SyntheticRun, lost: str) -> None:
    """Whether it was acknowledged before the fault or in it."""
    milvus.lose(lost)
    verdict = milvus.judged()
    assert (verdict.verdict, verdict.reason) == ("broken", "1 acknowledged writes are lost.")


def test_a_zone_without_a_member_leaves_it_open(milvus: SyntheticRun) -> None:
    """Where no state was lost nothing is shown; a replica has none."""
    milvus.pod(20, "etcd-zone-a", "zone-a", app="milvus-etcd", formation="milvus", bound_to="zone-a", ready=False)
    verdict = milvus.judged()
    assert verdict.verdict == "inconclusive"
    assert "no ready pod with state of milvus" in verdict.reason


def two_zones(run: SyntheticRun) -> None:
    """Let two zones be lost."""
    for event in run.events:
        if event["kind"].startswith("fault."):
            event["zones"] = ["zone-a", "zone-b"]


def unread(run: SyntheticRun) -> None:
    """Let the partitions not have been readable."""
    run.read_back = [replace(one, items=[], error="gone") if one.engine == "milvus" else one for one in run.read_back]


def without_writes_of_metadata(run: SyntheticRun) -> None:
    """Let no partition be asked for, and something else instead."""
    run.alter(0, 1000, lambda one: replace(one, operation="search"), engine="milvus")


SPOILT: dict[str, tuple[str, Callable[[SyntheticRun], object], str]] = {
    "two zones": (ACTIVE, two_zones, "2 zones were lost"),
    "two zones, searches": (INFLIGHT, two_zones, "2 zones were lost"),
    "not under load": (ACTIVE, lambda run: run.without("load.begin", engine="milvus"), "milvus was not under load"),
    "unhealthy before": (INFLIGHT, lambda run: run.fail(10, 11, engine="milvus"), "milvus was not healthy"),
    "unhealthy before, metadata": (ACTIVE, lambda run: run.fail(10, 11, engine="milvus"), "milvus was not healthy"),
    "no metadata asked for": (ACTIVE, without_writes_of_metadata, "no reads of metadata were due"),
    "not read back": (ACTIVE, unread, "could not be read back"),
    "no search": (INFLIGHT, lambda run: run.workloads.clear(), "no search was in flight in the lost zone"),
    "watch lost": (INFLIGHT, lambda run: run.add(10, "watch.lost", what="pods", error="gone"), "the watch of pods"),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_what_is_missing_leaves_it_open(milvus: SyntheticRun, spoilt: str) -> None:
    """With a sentence that says what."""
    milvus.promise, spoil, reason = SPOILT[spoilt]
    spoil(milvus)
    verdict = milvus.judged()
    assert verdict.verdict == "inconclusive", verdict.reason
    assert reason in verdict.reason[:1].lower() + verdict.reason[1:]


@pytest.fixture
def inflight(milvus: SyntheticRun) -> SyntheticRun:
    """The same run, judged on its searches."""
    milvus.promise = INFLIGHT
    return milvus


def test_a_search_that_failed_and_no_long_impact_hold(inflight: SyntheticRun) -> None:
    """What failed, when, and when all was as before, while the zone was lost and after."""
    inflight.fail(INJECTING_S, INJECTING_S + 2, engine="milvus")
    verdict = inflight.judged()
    assert verdict.verdict == "held", verdict.reason
    assert verdict.figure == (
        "1 of 1 searches in flight in the lost zone failed after 3.4 s (UNAVAILABLE 14); "
        "as before 2.1 s after the fault, and 50 ms after the zone began to return"
    )
    assert {one["replica"] for one in verdict.evidence["in_flight"]} == {
        "milvus-zone-a",
        "milvus-zone-b",
        "milvus-zone-c",
    }


@pytest.mark.parametrize(("after_s", "word"), [(FAILS_WITHIN_S, "held"), (FAILS_WITHIN_S + 0.01, "broken")])
def test_a_search_in_the_lost_zone_must_fail_in_time(inflight: SyntheticRun, after_s: float, word: str) -> None:
    """A hundredth of a second too late is too late."""
    inflight.change("search-zone-a", mono=BEGAN_MONO + INJECTING_S + after_s)
    assert inflight.judged().verdict == word


def test_a_search_in_the_lost_zone_that_succeeded_breaks_it(inflight: SyntheticRun) -> None:
    """And so does one beside another that failed."""
    inflight.long_search("search-2", "zone-a", 21, 40, "succeeded")
    verdict = inflight.judged()
    assert verdict.verdict == "broken"
    assert "search-2 was in flight and succeeded all the same" in verdict.reason


@pytest.mark.parametrize(("at_s", "word"), [(IN_EFFECT_S, "inconclusive"), (IN_EFFECT_S + 0.01, "broken")])
def test_a_search_that_was_answered_while_the_zone_was_going_was_not_in_flight(
    inflight: SyntheticRun, at_s: float, word: str
) -> None:
    """Until the effect is proved, a machine may still answer."""
    inflight.change("search-zone-a", mono=BEGAN_MONO + at_s, state="succeeded")
    assert inflight.judged().verdict == word


def test_searches_in_other_zones_may_end_as_they_like(inflight: SyntheticRun) -> None:
    """With the lost zone's own gone from the run, nothing is known of it."""
    inflight.change("search-zone-b", state="failed", error="UNAVAILABLE")
    assert inflight.judged().verdict == "held"


def test_only_a_search_elsewhere_leaves_it_open(inflight: SyntheticRun) -> None:
    """None in the lost zone could fail."""
    inflight.workloads = [one for one in inflight.workloads if one.workload != "search-zone-a"]
    verdict = inflight.judged()
    assert verdict.verdict == "inconclusive"
    assert "no search was in flight in the lost zone" in verdict.reason.lower()


@pytest.mark.parametrize(("state", "word"), [("failed", "held"), ("succeeded", "inconclusive")])
def test_a_search_whose_place_nobody_knows(inflight: SyntheticRun, state: str, word: str) -> None:
    """It fits if it failed; if it did not it may have been elsewhere."""
    inflight.workloads.clear()
    inflight.long_search("search-1", None, 20, 34, state)  # type: ignore[arg-type] # of literals
    assert inflight.judged().verdict == word


@pytest.mark.parametrize(("until_s", "word"), [(DEADLINE_S - SUSTAINED_S, "held"), (DEADLINE_S - 9, "broken")])
@pytest.mark.parametrize("how", ["fails", "is slow"])
def test_all_must_be_as_before_by_the_deadline(inflight: SyntheticRun, how: str, until_s: float, word: str) -> None:
    """Failures and latency both count; slow is three times the baseline and a fifth of a second more."""
    inflight.prolong(160)
    if how == "fails":
        inflight.fail(INJECTING_S, INJECTING_S + until_s, engine="milvus")
    else:
        inflight.slow(INJECTING_S, INJECTING_S + until_s, 0.36, engine="milvus")
    verdict = inflight.judged()
    assert verdict.verdict == word, verdict.reason
    assert word == "held" or "not as before within 120.0 s" in verdict.reason


@pytest.mark.parametrize("how", ["fails", "is slow"])
def test_ten_good_seconds_before_it_breaks_are_not_as_before(inflight: SyntheticRun, how: str) -> None:
    """From when all is as before it stays so for as long as the zone is lost."""
    inflight.prolong(160)
    if how == "fails":
        inflight.fail(INJECTING_S + 12, 160, engine="milvus")
    else:
        inflight.slow(INJECTING_S + 12, 160, 0.36, engine="milvus")
    verdict = inflight.judged()
    assert verdict.verdict == "broken"
    assert "not as before within 120.0 s" in verdict.reason


def test_a_zone_that_returns_too_early_leaves_it_open(inflight: SyntheticRun) -> None:
    """Before all was as before."""
    inflight.fail(INJECTING_S, HEALING_S - 9, engine="milvus")
    verdict = inflight.judged()
    assert verdict.verdict == "inconclusive"
    assert "before all was as before" in verdict.reason


def test_an_impact_that_lasts_after_the_zone_returned_breaks_it(inflight: SyntheticRun) -> None:
    """No long-term impact: not after the disaster either."""
    inflight.prolong(HEALING_S)
    inflight.slow(HEALING_S - 5, 240, 0.36, engine="milvus")
    verdict = inflight.judged()
    assert verdict.verdict == "broken"
    assert "after the zone returned" in verdict.reason


def test_no_ready_replica_in_the_zone_leaves_it_open(inflight: SyntheticRun) -> None:
    """Then no search was lost."""
    inflight.pod(20, "milvus-zone-a", "zone-a", app="milvus", formation="milvus", ready=False)
    verdict = inflight.judged()
    assert verdict.verdict == "inconclusive"
    assert "held no ready replica of milvus" in verdict.reason
