"""What a run waits to be over before its baseline and after its fault."""

from __future__ import annotations

import pytest
from builders import request

from gameday.contract import load_contract
from gameday.disturbance import disturbance
from gameday.paths import PROJECT
from gameday.records import Request

RECOVERY = load_contract(PROJECT / "contract.yaml").recovery
ENGINES = ("mds", "presto")
NONE_WAITS: dict[str, list[float]] = {"mds": [], "presto": [], "milvus": []}
QUIET = [request(1.0), request(2.0, engine="presto", latency_s=RECOVERY.slow_after_s_of("presto") - 0.1)]


def test_nothing_is_wrong_where_all_engines_answer_in_time() -> None:
    """An answer of Presto may take longer than one of MDS."""
    assert RECOVERY.slow_after_s_of("presto") > RECOVERY.slow_after_s_of("mds")
    assert disturbance(QUIET, ENGINES, RECOVERY, {}, NONE_WAITS) is None


@pytest.mark.parametrize(
    "bad", [request(3.0, outcome="error"), request(3.0, latency_s=RECOVERY.slow_after_s_of("mds") + 0.1)]
)
def test_an_operation_that_failed_or_was_late_is_wrong(bad: Request) -> None:
    """One is enough, among any number."""
    assert disturbance([*QUIET, bad], ENGINES, RECOVERY, {}, NONE_WAITS) == "1 of 3 failed or were slow"


def test_an_engine_that_answers_nothing_is_wrong() -> None:
    """That nothing of it failed says nothing then; where nothing at all ended, all are named."""
    wrong = disturbance(QUIET, (*ENGINES, "milvus"), RECOVERY, {}, NONE_WAITS)
    assert wrong == "0 of 2 failed or were slow; none of milvus was answered"
    none = disturbance([], ENGINES, RECOVERY, {}, NONE_WAITS)
    assert none == "0 of 0 failed or were slow; none of mds, presto was answered"


def test_an_engine_that_is_later_than_its_baseline_allows_is_wrong() -> None:
    """None of its answers counts as a failure, but their 95th percentile is above what "no impact" allows."""
    took_s = RECOVERY.slow_after_s_of("presto") - 0.1
    assert disturbance(QUIET, ENGINES, RECOVERY, {"mds": 1.0, "presto": took_s}, NONE_WAITS) is None
    wrong = disturbance(QUIET, ENGINES, RECOVERY, {"mds": 1.0, "presto": took_s - 0.5, "milvus": 0.1}, NONE_WAITS)
    assert wrong == f"0 of 2 failed or were slow; p95 of presto {took_s:.2f} s, at most {took_s - 0.5:.2f} s"


def test_an_operation_that_waits_has_taken_as_long_as_it_waits() -> None:
    """A service that stands still answers nothing slow: what has waited for longer than is allowed counts, as late."""
    slow_s = RECOVERY.slow_after_s_of("mds")
    allowed = {"mds": slow_s / 2}

    def wrong(*waited_s: float) -> str | None:
        return disturbance(QUIET, ENGINES, RECOVERY, allowed, {"mds": waited_s, "presto": []})

    assert wrong(slow_s / 2 - 0.1) is None
    told = f"of 2 failed or were slow; p95 of mds {slow_s - 0.1:.2f} s, at most {slow_s / 2:.2f} s"
    assert wrong(slow_s - 0.1, slow_s / 2 - 0.1) == f"0 {told}"
    assert disturbance(QUIET, ENGINES, RECOVERY, {}, {"mds": [slow_s + 0.1], "presto": [slow_s + 0.1]}) == (
        "1 of 2 failed or were slow"
    )


def test_a_load_that_ended_a_moment_ago_is_no_reason_to_stop() -> None:
    """What its operations were still counts, and nothing of it is waited for."""
    good, slow = (
        request(3.0, engine="spark", latency_s=RECOVERY.slow_after_s_of("spark") + more) for more in (-0.1, 0.1)
    )
    assert disturbance([*QUIET, good], ENGINES, RECOVERY, {}, NONE_WAITS) is None
    assert disturbance([*QUIET, good, slow], ENGINES, RECOVERY, {}, NONE_WAITS) == "1 of 4 failed or were slow"
