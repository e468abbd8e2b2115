"""Whether clients see anything wrong at this moment: what a run waits for before a baseline and after a fault."""

from __future__ import annotations

from collections.abc import Collection

from gameday.contract import Recovery
from gameday.records import Request


def disturbance(recent: Collection[Request], engines: Collection[str], recovery: Recovery) -> str | None:
    """Return what was wrong with the operations that ended of late, in words; None where nothing was.

    An operation that failed, or took longer than `slow_after_s` of its engine, is wrong, and so is an engine of which
    none ended.
    """
    bad = [one for one in recent if one.outcome != "ok" or one.latency_s > recovery.slow_after_s_of(one.engine)]
    silent = set(engines) - {one.engine for one in recent}
    if not bad and not silent:
        return None
    told = f"{len(bad)} of {len(recent)} failed or were slow"
    return f"{told}; none of {', '.join(sorted(silent))} was answered" if silent else told
