"""What arrives, and when: the cycle of operations of the catalogue's clients, at a constant rate.

The rate is an open model: arrival n is due at its time whether or not earlier ones were answered, so a server that
stalls does not slow the load down, and latency counts from the due time (no coordinated omission).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import gevent

from gameday.timeline import now

# An engine that plans a query over many tables asks for all of them at once.
TABLES_OF_A_PLAN = 12
# Arrivals in the order in which they come, over and over.
CYCLE = ("plan_query", "list_namespaces", "commit_snapshot", "load_table", "commit_snapshot")
# Of every so many commits one creates a table instead, for the tables that are retired.
COMMITS_PER_CREATE = 10


def operation(arrival: int) -> str:
    """Return the operation of an arrival, counted from 0."""
    name = CYCLE[arrival % len(CYCLE)]
    if name != "commit_snapshot":
        return name
    per_cycle = CYCLE.count("commit_snapshot")
    commit = arrival // len(CYCLE) * per_cycle + CYCLE[: arrival % len(CYCLE)].count("commit_snapshot")
    return "create_table" if commit % COMMITS_PER_CREATE == COMMITS_PER_CREATE - 1 else name


def declared_rates(arrivals_per_s: float) -> dict[str, float]:
    """Return the requests a second of each operation that a load of so many arrivals a second makes."""
    turns = len(CYCLE) * COMMITS_PER_CREATE
    rates: Counter[str] = Counter()
    for arrival in range(turns):
        name = operation(arrival)
        requests = TABLES_OF_A_PLAN if name == "plan_query" else 1
        rates["load_table" if name == "plan_query" else name] += requests
    return {name: count / turns * arrivals_per_s for name, count in rates.items()}


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
            gevent.sleep(due - moment)
            continue
        gevent.spawn(arrive, number, due)
        number += 1
