"""The benchmark of outages: what it makes of its measurements; the measurements themselves are for `make bench`."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from gameday.errors import HarnessError
from gameday.records import Request
from loadgen import bench
from loadgen.bench import INTERVAL_S, Freeze, main, measured


def requests_around(begin: float, end: float, *, late: bool = True) -> list[Request]:
    """Return arrivals around a freeze: those due within it are answered at its end, or as if there had been none."""
    dues = [begin - 0.7 + INTERVAL_S * number for number in range(round((end - begin + 2.2) / INTERVAL_S))]
    answered = [end if late and begin <= due < end else due for due in dues]
    return [
        Request("mds", "list_namespaces", due, due, ended + 0.002, 0.0, "ok")
        for due, ended in zip(dues, answered, strict=True)
    ]


def test_a_freeze_is_measured_from_what_was_late() -> None:
    """Requests that were due in a freeze and answered after it show its length within two intervals."""
    found = measured(requests_around(10.01, 12.03), 10.01, 12.03)
    assert found.exact_s == pytest.approx(2.02)
    assert abs(found.error_s) <= 2 * INTERVAL_S


def test_a_freeze_that_nobody_saw_is_an_error() -> None:
    """Without an outage in the requests there is nothing to compare, and that is said."""
    with pytest.raises(HarnessError, match="not seen as one outage"):
        measured(requests_around(10.0, 12.0, late=False), 10.0, 12.0)


@pytest.mark.parametrize(("off_s", "code"), [(0.099, 0), (-0.099, 0), (0.101, 1), (-0.101, 1)])
def test_more_than_two_intervals_fail_the_benchmark(monkeypatch: pytest.MonkeyPatch, off_s: float, code: int) -> None:
    """One freeze that is measured off by more than two intervals, long or short, makes the exit code 1."""
    monkeypatch.setattr(bench, "bench", lambda seconds, _times: [Freeze(seconds, seconds), Freeze(2.0, 2.0 + off_s)])
    monkeypatch.setattr(bench, "_RECORDED", 10)
    ran = CliRunner().invoke(main, ["--times", "2", "--seconds", "2"])
    assert ran.exit_code == code
    assert "maximum" in ran.output


@pytest.mark.parametrize("seconds", ["two", "2,", "0.5"])
def test_only_lengths_that_make_an_outage_are_taken(seconds: str) -> None:
    """What is no list of seconds, or too short to be an outage, is refused in a sentence."""
    ran = CliRunner().invoke(main, ["--seconds", seconds])
    assert ran.exit_code == 2
    assert "no list of seconds" in ran.output or "no outage" in ran.output
