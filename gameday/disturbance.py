"""Whether clients see anything wrong at this moment: what a run waits for before a baseline and after a fault."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from gameday.contract import Recovery
from gameday.measure import percentile
from gameday.records import Request


def disturbance(
    recent: Collection[Request],
    engines: Collection[str],
    recovery: Recovery,
    p95_s_max: Mapping[str, float],
    waiting_s: Mapping[str, Sequence[float]],
) -> str | None:
    """Return what was wrong with the operations that ended of late, in words; None where nothing was.

    An operation that failed, or took longer than `slow_after_s` of its engine, is wrong, and so is an engine of which
    none ended, or whose 95th percentile of latency is above what `p95_s_max` gives it (in seconds, by engine). One that
    has not ended has taken as long as it waits (`waiting_s`, by engine): a service that stands still answers nothing
    that could be slow.
    """
    bad = sum(one.outcome != "ok" or one.latency_s > recovery.slow_after_s_of(one.engine) for one in recent)
    bad += sum(waited > recovery.slow_after_s_of(engine) for engine in engines for waited in waiting_s[engine])
    silent = set(engines) - {one.engine for one in recent}
    late = {}
    for engine, allowed in p95_s_max.items():
        took = [one.latency_s for one in recent if one.engine == engine and one.outcome == "ok"]
        # one that may yet be answered in time says nothing
        found = percentile(took + [waited for waited in waiting_s[engine] if waited > allowed], 0.95)
        if found is not None and found > allowed:
            late[engine] = found
    if not bad and not silent and not late:
        return None
    told = [f"{bad} of {len(recent)} failed or were slow"]
    told += [f"none of {', '.join(sorted(silent))} was answered"] if silent else []
    told += [f"p95 of {engine} {p95:.2f} s, at most {p95_s_max[engine]:.2f} s" for engine, p95 in sorted(late.items())]
    return "; ".join(told)
