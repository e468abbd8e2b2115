"""What clients saw, in numbers: outages of known length, percentiles, gaps and rates."""

from __future__ import annotations

import random

import pytest
from builders import BEGAN_MONO, BEGAN_WALL, request
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday import measure
from gameday.records import Request
from gameday.timeline import Event

RATE_PER_S, TIME_OUT_S = 20, 3.0
INTERVAL_S = 1 / RATE_PER_S


def frozen(begin_s: float, length_s: float, *, until_s: float, jitter: random.Random | None = None) -> list[Request]:
    """Return operations on a server that answers in 5 ms but is frozen for a while; clients give up after 3 s."""
    found = []
    thaw_s = begin_s + length_s
    for number in range(int(until_s * RATE_PER_S)):
        at_s = number * INTERVAL_S + (jitter.uniform(0, INTERVAL_S / 4) if jitter else 0)
        if not begin_s <= at_s < thaw_s:
            found.append(request(at_s, 0.005))
        elif thaw_s - at_s > TIME_OUT_S:
            found.append(request(at_s, TIME_OUT_S, outcome="error", error="ReadTimeout"))
        else:
            found.append(request(at_s, thaw_s - at_s + 0.005))
    return found


@settings(deadline=None, max_examples=60)
@given(begin_s=st.floats(5, 8), length_s=st.floats(1.2, 15), seed=st.integers(0, 99))
def test_an_outage_is_measured_within_an_interval_at_either_end(begin_s: float, length_s: float, seed: int) -> None:
    """A freeze of any length is one outage, begins and ends with it, and is thus right to two intervals."""
    requests = frozen(begin_s, length_s, until_s=begin_s + length_s + 12, jitter=random.Random(seed))  # noqa: S311 - no secret
    (outage,) = measure.outages(requests, sustained_s=10)
    assert outage.ended is not None
    assert 0 <= outage.started - BEGAN_MONO - begin_s <= 1.25 * INTERVAL_S
    assert abs(outage.ended - BEGAN_MONO - begin_s - length_s) <= 1.25 * INTERVAL_S
    assert outage.length_s is not None
    assert abs(outage.length_s - length_s) <= 2 * INTERVAL_S


def test_no_failure_is_no_outage() -> None:
    """Neither a healthy service nor an empty list has one."""
    assert measure.outages(frozen(5, 0, until_s=10), sustained_s=10) == []
    assert measure.outages([], sustained_s=10) == []


def test_two_failures_are_one_outage_if_success_between_them_was_not_sustained() -> None:
    """9.9 s of success between failures do not end an outage, 10 s do."""
    for apart_s, count in ((9.9, 1), (10.2, 2)):
        requests = [request(number / 10) for number in range(400)]
        requests += [request(at_s, 0.01, outcome="error") for at_s in (5.0, 5.06 + apart_s)]
        assert len(measure.outages(requests, sustained_s=10)) == count, apart_s


def test_an_outage_has_no_end_unless_success_was_seen_to_be_sustained() -> None:
    """A load that stops 9 s after the last failure leaves it open."""
    requests = frozen(5, 3, until_s=17)
    (outage,) = measure.outages(requests, sustained_s=10)
    assert (outage.ended, outage.length_s) == (None, None)
    (outage,) = measure.outages(requests, sustained_s=8)
    assert outage.ended is not None


def test_what_was_due_with_the_last_failure_does_not_end_the_outage() -> None:
    """Of a burst due at one moment, the part that succeeded is no sign of recovery."""
    requests = [request(5.0, 0.01, outcome="error"), request(5.0, 0.02), request(6.0, 0.01), request(30.0)]
    for order in (requests, requests[::-1]):
        (outage,) = measure.outages(order, sustained_s=10)
        assert outage.ended == pytest.approx(BEGAN_MONO + 6.01)


def test_an_operation_that_was_dropped_or_never_answered_fails_one_that_was_young_does_not() -> None:
    """Unfinished at the stop of the load counts only where it was older than what is called slow."""
    assert measure.has_failed(request(0, 0, outcome="dropped"), 1)
    assert measure.has_failed(request(0, 5, outcome="unfinished"), 1)
    assert not measure.has_failed(request(0, 0.5, outcome="unfinished"), 1)
    assert not measure.has_failed(request(0, 1), 1)
    assert measure.has_failed(request(0, 1.01), 1)


def test_the_error_ratio_counts_errors_and_drops_of_what_was_finished() -> None:
    """Unfinished operations are in neither part of the ratio."""
    outcomes = ["ok", "ok", "error", "dropped", "unfinished"]
    assert measure.error_ratio([request(0, outcome=outcome) for outcome in outcomes]) == 0.5
    assert measure.error_ratio([request(0, outcome="unfinished")]) is None


def test_the_longest_gap_counts_the_edges_of_the_window() -> None:
    """Without a success in the window, the gap is all of it; errors do not close a gap."""
    begin, end = BEGAN_MONO + 10, BEGAN_MONO + 20
    assert measure.longest_gap_s([], begin, end) == 10
    assert measure.longest_gap_s([request(9, 3), request(15, 1, outcome="error")], begin, end) == pytest.approx(8)
    assert measure.longest_gap_s([request(13.95)], begin, end) == pytest.approx(6)
    assert measure.longest_gap_s([request(11.95), request(17.95)], begin, end) == pytest.approx(6)


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 1))
def test_a_percentile_is_the_smallest_value_that_enough_others_do_not_exceed(values: list[float], share: float) -> None:
    """It is one of the values; at least the share is not above it, and less than that is below it."""
    found = measure.percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) <= share * len(values) + 1e-6


def test_percentiles_of_latency_are_of_successes_and_count_from_the_intended_start() -> None:
    """A client that could not send in time does not hide the wait; errors have no latency."""
    requests = [request(0, number / 100, started=BEGAN_MONO + 99) for number in range(1, 101)]
    requests += [request(0, 50, outcome="error")]
    assert measure.latency_s(requests, 0.95) == pytest.approx(0.95)
    assert measure.latency_s(requests, 0.5) == pytest.approx(0.5)
    assert measure.latency_s(requests, 1) == pytest.approx(1.0)
    assert measure.latency_s([], 0.95) is None


def test_operations_belong_to_the_moment_they_were_due() -> None:
    """Those in flight when a window begins touch it, and are not due in it."""
    before, in_flight, inside, after = request(1, 0.5), request(1.9, 0.5), request(2), request(3)
    every, window = [before, in_flight, inside, after], (BEGAN_MONO + 2, BEGAN_MONO + 3)
    assert measure.due_within(every, *window) == [inside]
    assert measure.touched(every, *window) == [in_flight, inside]


def test_rates_are_of_what_was_due_and_throughput_of_what_was_answered() -> None:
    """A server that stalls changes its throughput, and not the rate at which clients ask."""
    requests = [request(number / 10, 0.01 if number < 15 else 1.0) for number in range(30)]
    window = BEGAN_MONO, BEGAN_MONO + 3
    assert measure.rate_per_s(requests, *window) == 10
    assert measure.rates_by_operation(requests, *window) == {"load_table": 10}
    assert measure.throughput(requests, *window) == [10, 5, 5]
    with pytest.raises(ValueError, match="length"):
        measure.rate_per_s(requests, BEGAN_MONO, BEGAN_MONO)


def test_the_largest_burst_is_of_one_moment() -> None:
    """Operations that are due at almost the same time are not one burst."""
    assert measure.largest_burst([request(1), request(2), request(2), request(2.001)]) == 2
    assert measure.largest_burst([]) == 0


def test_the_resolution_is_the_usual_time_between_arrivals() -> None:
    """A burst due at one moment is one arrival."""
    requests = [request(at_s) for at_s in (0, 0, 0, 0.2, 0.4, 0.4, 0.6, 5)]
    assert measure.resolution_s(requests) == pytest.approx(0.2)
    assert measure.resolution_s(requests[:3]) is None


def test_silence_is_where_nothing_was_due_edges_included() -> None:
    """A load that began late or ended early is silent there."""
    found = measure.silences([request(6), request(8)], BEGAN_MONO, BEGAN_MONO + 14, 5)
    assert [(begin - BEGAN_MONO, end - BEGAN_MONO) for begin, end in found] == [(0, 6), (8, 14)]


@settings(deadline=None, max_examples=100)
@given(kinds=st.lists(st.sampled_from(["ok", "error", "slow", "unfinished"]), min_size=1, max_size=60))
def test_sustained_success_is_what_a_search_through_every_window_finds(kinds: list[str]) -> None:
    """The first window of 10 s, among those that begin with an operation, that holds a success and no failure."""
    made = {
        "ok": {},
        "slow": {"latency_s": 5.1},
        "error": {"outcome": "error"},
        "unfinished": {"outcome": "unfinished"},
    }
    requests = [request(float(number), **made[kind]) for number, kind in enumerate(kinds)]  # type: ignore[arg-type] # literals
    due = [one.intended for one in requests]
    expected = None
    for begin in due:
        own = [one for one in requests if begin <= one.intended < begin + 10]
        answered = [one.ended for one in own if one.outcome == "ok"]
        if begin + 10 <= due[-1] and answered and not any(measure.has_failed(one, 5.0) for one in own):
            expected = min(answered)
            break
    found = measure.first_sustained(requests, due[0], due[-1] + 1, sustained_s=10, slow_after_s=5.0)
    assert found == expected


def test_sustained_success_must_lie_within_its_window() -> None:
    """Neither before its begin, nor with an end after its end, nor after the last operation."""
    requests = [request(float(number)) for number in range(31)]
    begin = BEGAN_MONO + 5

    def found(end_s: float) -> float | None:
        return measure.first_sustained(requests, begin, BEGAN_MONO + end_s, sustained_s=10, slow_after_s=1)

    assert found(14.9) is None
    assert found(15) == pytest.approx(begin + 0.05)
    assert measure.first_sustained(requests, BEGAN_MONO + 21, BEGAN_MONO + 99, sustained_s=10, slow_after_s=1) is None
    assert measure.first_sustained([], begin, begin + 99, sustained_s=10, slow_after_s=1) is None


def test_progress_is_counted_between_the_first_and_the_last_look_within_the_window() -> None:
    """Edges belong to it; one look is none."""
    looks = [(0.0, 1), (2.0, 5), (4.0, 9), (6.0, 20)]
    assert measure.progress(looks, 2, 4) == (4, 2)
    assert measure.progress(looks, 1, 9) == (15, 4)
    assert measure.progress(looks, 3, 5) is None
    assert measure.progress([(1.0, 3), (1.0, 4)], 0, 2) is None
    assert measure.progress([], 0, 9) is None


def test_mean_cores_are_weighed_by_their_seconds() -> None:
    """A second that was longer counts for more; other events count for nothing, and without any nothing is known."""
    idle, busy = (
        {"region": region, "harness": 0.1, "others": 0.0, "stolen": 0.0, "idle": 0.5} for region in (1.0, 2.0)
    )
    events = [
        Event(BEGAN_WALL, BEGAN_MONO, "machine", fields={"seconds": 3.0, **idle}),
        Event(BEGAN_WALL, BEGAN_MONO, "machine", fields={"seconds": 1.0, **busy}),
        Event(BEGAN_WALL, BEGAN_MONO, "node"),
    ]
    cores = measure.mean_cores(events)
    assert cores == {"region": 1.25, "harness": 0.1, "others": 0.0, "stolen": 0.0, "idle": 0.5}
    assert measure.cores_text(cores).startswith("region 1.25, harness 0.10, others")
    assert measure.mean_cores(events[2:]) == {}
    assert measure.cores_text({}) == "not known"


def test_what_waits_is_what_is_missing_among_the_arrivals() -> None:
    """Arrivals come every half second; those of 2.0, 4.5 and 5.0 have no answer yet, nor has the one of 0.5."""
    answered = [request(moment, latency_s=0.1) for moment in (1.0, 1.5, 1.5, 2.5, 3.0, 3.5, 4.0)]

    def waiting(among: list[Request], begin_s: float, end_s: float) -> list[float]:
        return measure.waiting_s(among, BEGAN_MONO + begin_s, BEGAN_MONO + end_s, 0.5)

    assert waiting(answered, 0.4, 5.2) == pytest.approx([4.7, 3.2, 0.7, 0.2])
    assert waiting(answered, 0.9, 4.4) == pytest.approx([2.4])
    assert waiting(answered[:3], 0.9, 1.9) == []
    assert waiting([], 1.0, 2.2) == pytest.approx([1.2, 0.7, 0.2])
