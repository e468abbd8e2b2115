"""Presto in a zone outage, judged: queries in flight fail, pods come back, queries work again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from builders import BEGAN_MONO, HEALING_S, IN_EFFECT_S, INJECTING_S, SyntheticRun

pytestmark = pytest.mark.needs("presto")

DEADLINE_S, FAILS_WITHIN_S, SUSTAINED_S = 120, 60, 10


@pytest.fixture
def presto(tmp_path: Path) -> SyntheticRun:
    """A run in which a query in flight fails after 21.3 s, and a worker is back after 18 s."""
    run = SyntheticRun(tmp_path / "run", "S5.presto.rescheduled", engines=("mds", "presto"))
    run.presto()
    return run


def test_a_failed_query_and_pods_that_are_back_hold(presto: SyntheticRun) -> None:
    """Each of the three parts is in the figure: failed queries, pods, and queries that work again."""
    presto.fail(INJECTING_S, INJECTING_S + 24, engine="presto")
    verdict = presto.judged()
    assert verdict.verdict == "held", verdict.reason
    assert verdict.figure == (
        "1 of 1 queries in flight failed after 21.3 s (REMOTE_TASK_ERROR 65542); pods lost: 1; "
        "presto whole again after 18.0 s; queries work again 24.1 s after the fault"
    )
    assert verdict.evidence["in_flight"][0]["workload"] == "query-1"
    assert [pod["name"] for pod in verdict.evidence["lost"]] == ["worker-zone-a"]
    assert [pod["name"] for pod in verdict.evidence["replacements"]] == ["worker-new"]


@pytest.mark.parametrize(("after_s", "word"), [(FAILS_WITHIN_S, "held"), (FAILS_WITHIN_S + 0.01, "broken")])
def test_a_query_in_flight_must_fail_in_time(presto: SyntheticRun, after_s: float, word: str) -> None:
    """A hundredth of a second too late is too late."""
    presto.change("query-1", mono=BEGAN_MONO + INJECTING_S + after_s)
    assert presto.judged().verdict == word


@pytest.mark.parametrize("ended_s", [IN_EFFECT_S + 0.1, 70.0])
def test_a_query_in_flight_that_succeeded_breaks_it(presto: SyntheticRun, ended_s: float) -> None:
    """Whenever it did, and also beside others that failed."""
    presto.long_query("query-2", 22, ended_s, "succeeded")
    verdict = presto.judged()
    assert verdict.verdict == "broken"
    assert "query-2 was in flight and succeeded all the same" in verdict.reason
    assert verdict.figure.startswith("1 of 2 queries in flight failed after 21.3 s")


def test_a_query_that_was_answered_while_the_zone_was_going_was_not_in_flight(presto: SyntheticRun) -> None:
    """Its worker may still have been there."""
    presto.long_query("query-2", 22, IN_EFFECT_S - 0.1, "succeeded")
    verdict = presto.judged()
    assert verdict.verdict == "held", verdict.reason
    assert verdict.figure.startswith("1 of 1 queries in flight failed")


def test_queries_that_fail_again_after_ten_good_seconds_do_not_work(presto: SyntheticRun) -> None:
    """While the zone is lost; a single one that fails later is no outage."""
    presto.prolong(160)
    presto.fail(100, 101, count=1, engine="presto")
    assert presto.judged().verdict == "held"
    presto.folder = presto.folder.with_name("again")
    presto.fail(INJECTING_S + 40, 160, engine="presto")
    verdict = presto.judged()
    assert verdict.verdict == "broken"
    assert "ueries did not work again" in verdict.reason


@pytest.mark.parametrize(("nodes", "word"), [(2, "inconclusive"), (3, "broken")])
def test_a_query_that_was_not_on_all_workers_need_not_fail(presto: SyntheticRun, nodes: int, word: str) -> None:
    """Its work may have been in the other zones alone; one that was on all workers had some in the lost zone."""
    presto.long_query("query-2", 22, 70, "succeeded")
    presto.step("presto", "query-2", "long_query", "running", 25, details={"nodes": nodes})
    verdict = presto.judged()
    assert verdict.verdict == word
    if word == "inconclusive":
        assert verdict.reason == "Long query query-2 was on 2 of 3 workers, perhaps on none that was lost."


@pytest.mark.parametrize("state", ["running", "unfinished"])
@pytest.mark.parametrize(("after_s", "word"), [(59.9, "inconclusive"), (60.1, "broken")])
def test_a_query_that_was_not_seen_to_end_breaks_it_once_its_time_is_over(
    presto: SyntheticRun, state: str, after_s: float, word: str
) -> None:
    """Seen at work after that it broke the promise; seen last before, nobody knows."""
    presto.change("query-1", state=state, mono=BEGAN_MONO + INJECTING_S + after_s, error=None, error_code=None)
    assert presto.judged().verdict == word


@pytest.mark.parametrize(("taken_s", "word"), [(29.0, "held"), (29.01, "inconclusive"), (30.5, "inconclusive")])
def test_a_query_was_in_flight_only_if_presto_had_had_it_for_a_second(
    presto: SyntheticRun, taken_s: float, word: str
) -> None:
    """With none in flight none could fail, also if one fails later."""
    presto.workloads.clear()
    presto.long_query("query-1", taken_s, 51.3, error_code=65542)
    verdict = presto.judged()
    assert verdict.verdict == word
    assert word == "held" or "no query was in flight when the zone was lost" in verdict.reason.lower()


def test_a_query_that_had_ended_before_the_fault_was_not_in_flight(presto: SyntheticRun) -> None:
    """Nor one that is no long query, nor one of another engine."""
    presto.change("query-1", mono=BEGAN_MONO + 29)
    presto.step("presto", "query-2", "other", "accepted", 20)
    for at_s, state in ((20, "accepted"), (50, "failed")):
        presto.step("spark", "query-3", "long_query", state, at_s, error_code=65542)  # type: ignore[arg-type] # literals
    assert presto.judged().verdict == "inconclusive"


@pytest.mark.parametrize(
    ("code", "coordinator_zone", "word"),
    [(65542, "zone-b", "held"), (2, "zone-b", "inconclusive"), (2, "zone-a", "inconclusive"),
     (None, "zone-b", "inconclusive"), (None, "zone-a", "held")],
)  # fmt: skip
def test_a_query_must_have_failed_by_the_loss_of_the_zone(
    presto: SyntheticRun, code: int | None, coordinator_zone: str, word: str
) -> None:
    """By Presto's own error, or with its coordinator; error 2 is a query whose client stopped asking."""
    presto.change("query-1", error_code=code, error="gone")
    presto.without("pod", name="coordinator")
    shown = {"formation": "presto", "app": "presto-coordinator"}
    presto.pod(0.5, "coordinator", coordinator_zone, **shown)
    presto.pod(55, "coordinator-new", "zone-c", **shown)
    assert presto.judged().verdict == word


@pytest.mark.parametrize(("back_s", "word"), [(DEADLINE_S, "held"), (DEADLINE_S + 0.1, "broken")])
def test_pods_bound_to_the_lost_zone_break_it(presto: SyntheticRun, back_s: float, word: str) -> None:
    """Back by the deadline is in time."""
    presto.without("pod", name="worker-new")
    presto.pod(INJECTING_S + back_s, "worker-new", "zone-c", formation="presto")
    presto.prolong(160)
    verdict = presto.judged()
    assert verdict.verdict == word
    assert word == "held" or "did not get its ready pods back within 120.0 s" in verdict.reason


def test_somebody_who_acted_breaks_it(presto: SyntheticRun) -> None:
    """Exactly as for the pods of all formations."""
    presto.add(40, "runbook.step.begin", "sre", step="scale by hand")
    assert presto.judged().verdict == "broken"


def test_another_formation_that_is_not_back_is_no_matter_of_presto(presto: SyntheticRun) -> None:
    """It is one of S5.all.rescheduled."""
    presto.without("pod", name="mds-new")
    presto.prolong(160)
    words = {verdict.promise: verdict.verdict for verdict in presto.judged_on(presto.promise, "S5.all.rescheduled")}
    assert words == {"S5.presto.rescheduled": "held", "S5.all.rescheduled": "broken"}


@pytest.mark.parametrize(
    ("until_s", "word"), [(DEADLINE_S - SUSTAINED_S, "held"), (DEADLINE_S - SUSTAINED_S + 0.5, "broken")]
)
def test_queries_must_work_again_by_the_deadline(presto: SyntheticRun, until_s: float, word: str) -> None:
    """Sustained by then: the next operation that is due after the last failed one begins the ten seconds."""
    presto.prolong(160)
    presto.fail(INJECTING_S, INJECTING_S + until_s, engine="presto")
    verdict = presto.judged()
    assert verdict.verdict == word
    assert word == "held" or "queries did not work again within 120.0 s" in verdict.reason.lower()


@pytest.mark.parametrize(("latency_s", "word"), [(5.0, "held"), (5.01, "inconclusive")])
def test_a_slow_query_works_within_presto_s_own_limit(presto: SyntheticRun, latency_s: float, word: str) -> None:
    """Five seconds, and not the one second of the catalogue."""
    presto.slow(INJECTING_S, HEALING_S, latency_s, engine="presto")
    assert presto.judged().verdict == word


def only_two_zones(run: SyntheticRun) -> None:
    """Let two zones be lost."""
    for event in run.events:
        if event["kind"].startswith("fault."):
            event["zones"] = ["zone-a", "zone-b"]


def few_operations(run: SyntheticRun) -> None:
    """Let the baseline hold 29 operations of Presto."""
    run.move("phase.begin", 14.4)


def no_worker_in_the_zone(run: SyntheticRun) -> None:
    """Let the lost zone have held no ready pod of Presto."""
    run.pod(20, "worker-zone-a", "zone-a", formation="presto", ready=False)


def late_worker(run: SyntheticRun) -> None:
    """Let the worker come back after the zone began to return."""
    run.without("pod", name="worker-new")
    run.pod(HEALING_S + 1, "worker-new", "zone-c", formation="presto")


def late_queries(run: SyntheticRun) -> None:
    """Let queries not have worked for ten seconds before the zone began to return."""
    run.fail(INJECTING_S, HEALING_S - 9.9, engine="presto")


SPOILT: dict[str, tuple[Callable[[SyntheticRun], object], str]] = {
    "two zones": (only_two_zones, "2 zones were lost"),
    "few operations": (few_operations, "has 29 operations, too few"),
    "no worker": (no_worker_in_the_zone, "held no ready pod of presto"),
    "zone returned before the pods": (late_worker, "the zone returned 45.0 s after the fault, before presto was back"),
    "zone returned before queries": (late_queries, "before queries worked again"),
    "watch lost": (lambda run: run.add(40, "watch.lost", what="pods", error="gone"), "the watch of pods was lost"),
    "not under load": (lambda run: run.without("load.begin", engine="presto"), "presto was not under load"),
    "unhealthy before": (lambda run: run.fail(10, 10.5, engine="presto"), "presto was not healthy"),
    "no query": (lambda run: run.workloads.clear(), "no query was in flight"),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_what_is_missing_leaves_it_open(presto: SyntheticRun, spoilt: str) -> None:
    """With a sentence that says what, and why."""
    spoil, reason = SPOILT[spoilt]
    spoil(presto)
    verdict = presto.judged()
    assert verdict.verdict == "inconclusive"
    assert reason in verdict.reason[:1].lower() + verdict.reason[1:]


def test_what_is_broken_stays_broken_beside_what_is_open(presto: SyntheticRun) -> None:
    """A query that succeeded is no less broken because pods were not back in time to be seen."""
    late_worker(presto)
    presto.change("query-1", state="succeeded")
    assert presto.judged().verdict == "broken"


def test_thirty_operations_are_enough_of_a_baseline(presto: SyntheticRun) -> None:
    """Fewer than the hundred that other engines need."""
    presto.move("phase.begin", 13.9)
    assert presto.judged().verdict == "held"


@pytest.mark.parametrize("spoilt", ["unhealthy before", "few operations", "no query"])
def test_pods_without_a_node_break_it_whatever_clients_saw(presto: SyntheticRun, spoilt: str) -> None:
    """That they may be in the lost zone alone has nothing to do with how slow queries were before it was lost."""
    presto.without("pod", name="worker-new")
    presto.pod(50, "worker-new", None, formation="presto", ready=False, unschedulable="bound to the lost zone")
    presto.prolong(160)
    SPOILT[spoilt][0](presto)
    verdict = presto.judged()
    assert verdict.verdict == "broken", verdict.reason
    assert verdict.reason == "Presto did not get its ready pods back within 120.0 s."
    assert "presto whole again after" in verdict.figure


@pytest.mark.parametrize("spoilt", ["unhealthy before", "few operations", "no query"])
def test_pods_that_only_took_long_break_nothing_that_clients_cannot_confirm(presto: SyntheticRun, spoilt: str) -> None:
    """They have a node, and whatever was slow before the fault may be to blame."""
    presto.without("pod", name="worker-new")
    presto.pod(INJECTING_S + DEADLINE_S + 1, "worker-new", "zone-c", formation="presto")
    presto.prolong(160)
    SPOILT[spoilt][0](presto)
    verdict = presto.judged()
    assert verdict.verdict == "inconclusive"
    assert SPOILT[spoilt][1] in verdict.reason[:1].lower() + verdict.reason[1:]
