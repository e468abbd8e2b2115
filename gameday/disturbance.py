"""Whether clients see anything wrong at this moment: what a run waits for before a baseline and after a fault."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gameday.contract import Recovery
from gameday.measure import latency_s
from gameday.records import Request


def disturbance(
    recent: Collection[Request], engines: Collection[str], recovery: Recovery, p95_s_max: Mapping[str, float]
) -> str | None:
    """Return what was wrong with the operations that ended of late, in words; None where nothing was.

    An operation that failed, or took longer than `slow_after_s` of its engine, is wrong, and so is an engine of which
    none ended, or whose 95th percentile of latency is above what `p95_s_max` gives it (in seconds, by engine).
    """
    bad = [one for one in recent if one.outcome != "ok" or one.latency_s > recovery.slow_after_s_of(one.engine)]
    silent = set(engines) - {one.engine for one in recent}
    found = {engine: latency_s((one for one in recent if one.engine == engine), 0.95) for engine in p95_s_max}
    late = {engine: p95 for engine, p95 in found.items() if p95 is not None and p95 > p95_s_max[engine]}
    if not bad and not silent and not late:
        return None
    told = [f"{len(bad)} of {len(recent)} failed or were slow"]
    told += [f"none of {', '.join(sorted(silent))} was answered"] if silent else []
    told += [f"p95 of {engine} {p95:.2f} s, at most {p95_s_max[engine]:.2f} s" for engine, p95 in sorted(late.items())]
    return "; ".join(told)
