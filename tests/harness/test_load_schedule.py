"""What arrives at each engine, and what is declared of it."""

from __future__ import annotations

from collections import Counter

import pytest

from gameday.errors import UsageError
from loadgen.schedule import ARRIVALS_PER_S, CYCLES, declared_rates, operation


@pytest.mark.parametrize("engine", CYCLES)
def test_the_declared_rates_are_those_of_the_cycle(engine: str) -> None:
    """What is declared is what a long count of arrivals gives."""
    arrivals = Counter(operation(engine, number) for number in range(6000))
    arrivals["load_table"] += 12 * arrivals.pop("plan_query", 0)
    expected = {name: count / 1200 for name, count in arrivals.items() if count}
    assert declared_rates(engine, 5.0) == pytest.approx(expected)


def test_an_engine_without_a_load_is_refused() -> None:
    """Asking for the load of an engine that has none is bad input, said in a sentence."""
    with pytest.raises(UsageError, match="hive"):
        declared_rates("hive", 1.0)
    assert set(ARRIVALS_PER_S) == set(CYCLES)
