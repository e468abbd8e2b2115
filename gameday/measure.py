"""What clients saw, in numbers: pure functions on lists of requests.

All times are seconds of the monotonic clock. A request belongs to the moment of its intended start, also where it was
answered much later: that is when a client wanted something.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from gameday.records import Request
from gameday.timeline import Event

FAILED = ("error", "dropped")
# Who had the machine's cores, as events of kind `machine` have it.
_OF_CORES = ("region", "harness", "others", "stolen", "idle")


@dataclass(frozen=True, slots=True)
class Outage:
    """A stretch in which the service failed clients; `ended` is None where success was not seen to be sustained again.

    started     intended start of the first operation that failed
    ended       when the first sustained success was answered
    failed      number of operations that failed in it
    last_failed intended start of the last of these
    """

    started: float
    ended: float | None
    failed: int
    last_failed: float

    @property
    def length_s(self) -> float | None:
        """Seconds from the first failure to the first sustained success: the RTO of this outage."""
        return None if self.ended is None else self.ended - self.started


def outages(requests: Iterable[Request], *, sustained_s: float, slow_after_s: float = 1.0) -> list[Outage]:
    """Return the outages in the order of time.

    An operation fails when it ends in an error, was dropped, or took longer than `slow_after_s`: without that limit a
    server which freezes, and answers all that waited once it thaws, had no outage. Failures less than `sustained_s`
    apart are one outage, whatever succeeded in between.

    An outage starts when its first failed operation was due, not when the client gave it up, so that time-outs do not
    shorten it. It ends with the earliest answer to an operation that was due after the last failed one and succeeded.
    Operations due in the last `slow_after_s` of a freeze succeed at the thaw, so that for a server frozen under a
    steady load the measured end is the thaw, however long clients wait before they give up; either end is then at most
    one interval between arrivals late. What is shorter than `slow_after_s` and fails nothing is no outage.

    An outage is over only if operations were due for `sustained_s` after its end and none of them failed. Operations
    that were unfinished when the load stopped count as failed if they were older than `slow_after_s` by then, else not
    at all.
    """
    found: list[Outage] = []
    open_outage: Outage | None = None
    back = last = -math.inf  # when success came back, and when the last operation was due
    for request in sorted(requests, key=lambda item: item.intended):
        last = request.intended
        if has_failed(request, slow_after_s):
            if open_outage and math.isfinite(back) and request.intended - back >= sustained_s:
                found.append(replace(open_outage, ended=back))
                open_outage = None
            failed = open_outage.failed + 1 if open_outage else 1
            started = open_outage.started if open_outage else request.intended
            open_outage = Outage(started, None, failed, last_failed=request.intended)
            back = math.inf
        elif open_outage and request.outcome == "ok" and request.intended > open_outage.last_failed:
            back = min(back, request.ended)
    if open_outage:
        found.append(replace(open_outage, ended=back if last - back >= sustained_s else None))
    return found


def has_failed(request: Request, slow_after_s: float) -> bool:
    """Tell whether an operation counts as failed in an outage: an error, not sent, or no answer in `slow_after_s`."""
    return request.outcome in FAILED or request.latency_s > slow_after_s


def first_sustained(
    requests: Sequence[Request],
    begin: float,
    end: float,
    *,
    sustained_s: float,
    slow_after_s: float,
    well: Callable[[Sequence[Request], tuple[float, float]], bool] = lambda own, window: True,  # noqa: ARG005
    lasting: Callable[[float], bool] = lambda begin: True,  # noqa: ARG005
) -> float | None:
    """Return when the first success was answered after which nothing failed for `sustained_s`, None until `end`.

    Looked for from `begin` on among `requests`, ordered by their intended start. The operations that were due in the
    window that begins there must not have failed in the sense of `outages`, one at least must have succeeded, they
    and the window must be `well`, and what came after that beginning must be `lasting`: ten good seconds before
    something breaks are no recovery.
    """
    due = [request.intended for request in requests]
    last = min([end, *due[-1:]])
    while begin + sustained_s <= last:
        window = (begin, begin + sustained_s)
        own = requests[bisect_left(due, window[0]) : bisect_left(due, window[1])]
        failed = [request.intended for request in own if has_failed(request, slow_after_s)]
        answered = [request.ended for request in own if request.outcome == "ok"]
        if answered and not failed and well(own, window) and lasting(begin):
            return min(answered)
        # no window that holds the last failure can be the one; without any, the next arrival begins another
        following = bisect_right(due, max([begin, *failed]))
        begin = due[following] if following < len(due) else last
    return None


def longest_failing_s(requests: Iterable[Request], *, sustained_s: float, slow_after_s: float) -> float:
    """Return the longest time from the first to the last failed operation of one outage, in seconds; 0 without any.

    Unlike an outage's length it is known also where success had no time to be sustained again.
    """
    found = outages(requests, sustained_s=sustained_s, slow_after_s=slow_after_s)
    return max((outage.last_failed - outage.started for outage in found), default=0.0)


def start_delays_s(requests: Iterable[Request]) -> list[float]:
    """Return by how much each operation was sent later than it was due, in seconds: the load's own doing."""
    return [request.started - request.intended for request in requests]


def progress(looks: Sequence[tuple[float, int]], begin: float, end: float) -> tuple[int, float] | None:
    """Return how many tasks were completed between the first and the last look within the window, and the seconds.

    A look is a moment, and how many were complete in all. None where there are no two looks at different moments.
    """
    within = [look for look in looks if begin <= look[0] <= end]
    if not within or within[-1][0] <= within[0][0]:
        return None
    return within[-1][1] - within[0][1], within[-1][0] - within[0][0]


def due_within(requests: Iterable[Request], begin: float, end: float) -> list[Request]:
    """Return the operations that were due from `begin` until before `end`."""
    return [request for request in requests if begin <= request.intended < end]


def touched(requests: Iterable[Request], begin: float, end: float) -> list[Request]:
    """Return the operations that were due within the window, and those that were in flight when it began."""
    return [
        request
        for request in requests
        if request.intended < end and (request.intended >= begin or request.ended > begin)
    ]


def failures(requests: Iterable[Request]) -> int:
    """Return how many operations failed after all retries or were not sent."""
    return sum(request.outcome in FAILED for request in requests)


def error_ratio(requests: Sequence[Request]) -> float | None:
    """Return the share of operations that failed after all retries or were not sent, None where there are none.

    Operations that were unfinished when the load stopped are neither failed nor counted.
    """
    finished = [request for request in requests if request.outcome != "unfinished"]
    if not finished:
        return None
    return failures(finished) / len(finished)


def longest_gap_s(requests: Iterable[Request], begin: float, end: float) -> float:
    """Return the longest time within the window in which no operation was answered with success, in seconds.

    The window's own edges count: one without any success has a gap of its whole length. `requests` should hold those
    that were due before the window too, as some of them are answered within it.
    """
    answered = sorted(r.ended for r in requests if r.outcome == "ok" and begin <= r.ended <= end)
    return max(after - before for before, after in pairwise([begin, *answered, end]))


def percentile(values: Iterable[float], share: float) -> float | None:
    """Return the smallest value that at least `share` (0 to 1) of all do not exceed (nearest rank); None of none."""
    ordered = sorted(values)
    if not ordered:
        return None
    # a rank that is whole but for the last bit of the product must not be rounded up
    return ordered[max(0, math.ceil(round(share * len(ordered), 9)) - 1)]


def latency_s(requests: Iterable[Request], share: float) -> float | None:
    """Return a percentile of latency, from the intended start, of the operations that succeeded, in seconds."""
    return percentile((request.latency_s for request in requests if request.outcome == "ok"), share)


def resolution_s(requests: Iterable[Request]) -> float | None:
    """Return the usual time between two arrivals (the median), in seconds: no outage is measured finer than that.

    Operations that were due at the same moment are one arrival. None where there are less than two.
    """
    moments = sorted({request.intended for request in requests})
    return median(after - before for before, after in pairwise(moments)) if len(moments) > 1 else None


def rate_per_s(requests: Iterable[Request], begin: float, end: float) -> float:
    """Return how many operations a second were due within the window; raises ValueError for one without a length."""
    if end <= begin:
        raise ValueError("a rate needs a window that has a length")
    return len(due_within(requests, begin, end)) / (end - begin)


def largest_burst(requests: Iterable[Request]) -> int:
    """Return how many operations were due at one moment at most: by so many a window that cuts a burst off is out."""
    return max(Counter(request.intended for request in requests).values(), default=0)


def rates_by_operation(requests: Iterable[Request], begin: float, end: float) -> dict[str, float]:
    """Return how many operations of each kind were due a second within the window, to hold against what is declared."""
    if end <= begin:
        raise ValueError("a rate needs a window that has a length")
    counts = Counter(request.operation for request in due_within(requests, begin, end))
    return {operation: count / (end - begin) for operation, count in sorted(counts.items())}


def throughput(requests: Iterable[Request], begin: float, end: float) -> list[int]:
    """Return how many operations were answered with success in each second of the window; the last may be a part."""
    answered = [0] * math.ceil(end - begin)
    for request in requests:
        if request.outcome == "ok" and begin <= request.ended < end:
            answered[int(request.ended - begin)] += 1
    return answered


def silences(requests: Iterable[Request], begin: float, end: float, longest_s: float) -> list[tuple[float, float]]:
    """Return the stretches of the window, longer than `longest_s`, in which no operation was due, edges included."""
    moments = sorted(request.intended for request in requests if begin <= request.intended <= end)
    return [(before, after) for before, after in pairwise([begin, *moments, end]) if after - before > longest_s]


def waiting_s(requests: Iterable[Request], begin: float, end: float, interval_s: float) -> list[float]:
    """Return how long each arrival of the window has waited at its end for an answer, in seconds, longest first.

    An operation is written down when it has ended, so one that waits is a gap among the intended starts of those that
    have: one user's arrivals are `interval_s` apart. Of no operation at all the window's own beginning is the first.
    """
    moments = sorted({request.intended for request in requests if begin <= request.intended <= end})
    first = moments[0] if moments else begin
    # from the first backwards too, so that what waits since the window began is not overlooked
    steps = range(math.ceil((begin - first) / interval_s), math.floor((end - first) / interval_s) + 1)
    answered = {round((moment - first) / interval_s) for moment in moments}
    return [end - (first + step * interval_s) for step in steps if step not in answered]


def mean_cores(events: Iterable[Event]) -> dict[str, float]:
    """Return how many of the machine's cores each had in the mean of what `machine` events tell; none if there is none.

    `region` are its containers, `harness` it and the load, `stolen` is what other machines of the same host had.
    """
    told = [event for event in events if event.kind == "machine"]
    length_s = sum(event["seconds"] for event in told)
    return {name: round(sum(one[name] * one["seconds"] for one in told) / length_s, 2) for name in _OF_CORES if told}


def cores_text(cores: Mapping[str, float]) -> str:
    """Return `mean_cores` as a person reads it."""
    return ", ".join(f"{name} {amount:.2f}" for name, amount in cores.items()) or "not known"
