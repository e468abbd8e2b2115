"""The report in a real browser: no console error, plots drawn, and nothing wider than a phone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Page, browser_page
from report_runs import write_run, write_workloads

from gameday.contract import load_contract
from gameday.judge import Verdict
from gameday.paths import PROJECT
from gameday.report import write_report

# in each: intended, succeeded, failed, three latencies, and at least one trace of failed attempts or of their lack
TRACES_MIN = 7
TOO_WIDE = """Array.from(document.querySelectorAll("body *"))
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest("thead"))
  .map((one) => one.outerHTML.slice(0, 80))"""
# the axis of the last of both plots is what is drawn last
DRAWN = "document.querySelectorAll('.plot')[1].querySelectorAll('.x3tick text').length > 0"
TRACES = "Array.from(document.querySelectorAll('.plot')).map((one) => one.querySelectorAll('.trace').length)"
PLOT_WIDTH = "Math.min(...Array.from(document.querySelectorAll('.main-svg')).map((one) => one.clientWidth))"


# one browser for all of these tests, also where others run beside them
pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A browser of its own, gone after these tests."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, browser_page(Path(profile)) as page:
        yield page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a game day of two runs, one with errors that hold markup and one without any error."""
    tmp_path = tmp_path_factory.mktemp("report")
    folders = [write_run(tmp_path / "lost"), write_run(tmp_path / "kept", zones=("zone-b",), outage=False)]
    write_workloads(folders[0])
    verdict = Verdict("S5.mds.until", "held", "w" * 300, "b", "r", "one-zone", {"long": "e" * 500})
    verdicts = {folders[0]: [verdict], folders[1]: []}
    target = tmp_path / "report.html"
    write_report(folders, verdicts, target, load_contract(PROJECT / "contract.yaml"))
    return target


@pytest.mark.parametrize(("width_px", "dark"), [(1280, False), (400, True)])
def test_the_page_is_drawn_without_an_error_at_every_width(
    page: Page, report: Path, width_px: int, *, dark: bool
) -> None:
    """Both plots have all their traces and fit the window, nothing overflows, console and network stay silent."""
    page.console.clear()
    page.open(report, width_px=width_px, dark=dark)
    page.wait_until(DRAWN)
    drawn = page.evaluate(TRACES)
    assert len(drawn) == 2
    assert min(drawn) >= TRACES_MIN
    assert page.evaluate("document.documentElement.scrollWidth") <= width_px
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate(PLOT_WIDTH) > 300
    assert page.console == []


def test_the_page_follows_the_colour_scheme(page: Page, report: Path) -> None:
    """Text of the plots is dark on a light page, and light on a dark one."""
    fills = []
    for dark in (False, True):
        page.open(report, width_px=1280, dark=dark)
        page.wait_until(DRAWN)
        fills.append(page.evaluate("getComputedStyle(document.querySelector('.x3tick text')).fill"))
    brightness = [sum(int(part) for part in fill.strip("rgb()").split(",")) for fill in fills]
    assert brightness[0] < 200
    assert brightness[1] > 550
