"""What arrives, and when: the cycle of operations of each engine's clients, at a constant rate.

The rate is an open model: arrival n is due at its time whether or not earlier ones were answered, so a server that
stalls does not slow the load down, and latency counts from the due time (no coordinated omission).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import gevent

from gameday.errors import UsageError
from gameday.timeline import now

# Names of the collections of a user of Milvus begin with these: one is searched, one grows.
SEARCHED, GROWING = "searched_", "growing_"
# What a user of the load says once its arrivals begin; `loadgen.process` counts these lines.
READY = "LOAD READY"
# Arrivals in the order in which they come, over and over, for each engine.
CYCLES = {
    "mds": (
        "plan_query",
        "list_namespaces",
        "commit_snapshot",
        "load_table",
        "list_namespaces",
        "load_table",
        "list_namespaces",
        "commit_snapshot",
        "list_namespaces",
        "load_table",
        "list_namespaces",
        "load_table",
    ),
    "presto": (
        "count_ship_modes",
        "select_one",
        "save_query",
        "select_one",
        "count_households",
        "select_one",
        "count_ship_modes",
        "select_one",
        "count_households",
        "select_one",
    ),
    "spark": ("job_status", "job_status", "job_status", "list_jobs"),
    "milvus": (
        "search",
        "create_partition",
        "insert",
        "describe_collection",
        "query",
        "create_partition",
        "insert",
        "describe_collection",
    ),
}
# Arrivals a second of each user where nothing else is asked for. Two replicas of MDS carry its arrivals and one does
# not, which is what S5.mds.two-zones turns on: the planned query of each second does that. What lies between are cheap
# reads, so that a thousand operations, of which "no impact" lets one fail, need 44 s of a lost zone and not a minute.
# Queries of Presto are many times dearer: a count 0.3 s of CPU on three workers that are warm, a write 0.6 s, what one
# worker answers alone 0.1 s; and twice that on new ones.
ARRIVALS_PER_S = {"mds": 12.0, "presto": 1.0, "spark": 2.0, "milvus": 5.0}
# An engine that plans a query over many tables asks for all of them at once.
TABLES_OF_A_PLAN = 12
# Of every so many commits one creates a table instead, for the tables that are retired.
COMMITS_PER_CREATE = 10
# One that waits for its next arrival looks so often whether there shall be none.
_STOPPED_LOOK_S = 0.25


def operation(engine: str, arrival: int) -> str:
    """Return the operation of an arrival, counted from 0; raises UsageError for an engine that has no load."""
    cycle = _cycle(engine)
    name = cycle[arrival % len(cycle)]
    if name != "commit_snapshot":
        return name
    per_cycle = cycle.count("commit_snapshot")
    commit = arrival // len(cycle) * per_cycle + cycle[: arrival % len(cycle)].count("commit_snapshot")
    return "create_table" if commit % COMMITS_PER_CREATE == COMMITS_PER_CREATE - 1 else name


def declared_rates(engine: str, arrivals_per_s: float) -> dict[str, float]:
    """Return the requests a second of each operation that a load of so many arrivals a second makes on an engine.

    Spark's hold as long as a job is in flight: after that, all arrivals are `list_jobs`.
    """
    turns = len(_cycle(engine)) * COMMITS_PER_CREATE
    rates: Counter[str] = Counter()
    for arrival in range(turns):
        name = operation(engine, arrival)
        requests = TABLES_OF_A_PLAN if name == "plan_query" else 1
        rates["load_table" if name == "plan_query" else name] += requests
    return {name: count / turns * arrivals_per_s for name, count in rates.items()}


def _cycle(engine: str) -> tuple[str, ...]:
    if engine not in CYCLES:
        raise UsageError(f"there is no load for the engine {engine!r}, only for {', '.join(CYCLES)}")
    return CYCLES[engine]


def pace(
    arrivals_per_s: float, arrive: Callable[[int, float], None], stopped: Callable[[], bool], *, phase: float = 0.0
) -> None:
    """Call `arrive(number, due)` for each arrival when it is due, in a greenlet of its own, until `stopped`.

    `phase` (0 to 1) shifts the arrivals by a part of their interval, so that several users do not arrive together. One
    that wakes late lets all arrive that are due by then, each with its own due time (monotonic seconds).
    """
    _, begin = now()
    begin += phase / arrivals_per_s
    number = 0
    while not stopped():
        due = begin + number / arrivals_per_s
        _, moment = now()
        if moment < due:
            gevent.sleep(min(due - moment, _STOPPED_LOOK_S))
            continue
        gevent.spawn(arrive, number, due)
        number += 1
