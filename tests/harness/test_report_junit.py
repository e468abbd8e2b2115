"""JUnit XML: only held is a pass."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from gameday.judge import Verdict
from gameday.report_junit import write_junit


def verdict(word: str, reason: str = "A reason.") -> Verdict:
    """Return a verdict of this word."""
    return Verdict(
        promise=f"S5.{word}", verdict=word, figure="12 s", bound="10 s", reason=reason, variant="v", evidence={}  # type: ignore[arg-type] # any word
    )  # fmt: skip


def written(tmp_path: Path, verdicts: list[Verdict]) -> ET.Element:
    """Write and read back the file of one run."""
    target = tmp_path / "junit.xml"
    write_junit({tmp_path / "run-1": verdicts}, target)
    return ET.fromstring(target.read_bytes())  # noqa: S314 - our own file


def test_every_verdict_but_held_reads_as_not_passed(tmp_path: Path) -> None:
    """Broken is a failure, inconclusive and harness error are errors, and nothing is skipped."""
    words = ["held", "broken", "inconclusive", "harness error"]
    root = written(tmp_path, [verdict(word) for word in words])
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert list(cases) == [f"S5.{word} (v)" for word in words]
    assert [child.tag for child in cases["S5.held (v)"]] == ["system-out"]
    assert [child.tag for child in cases["S5.broken (v)"]] == ["failure"]
    for word in words[2:]:
        assert [(child.tag, child.get("type")) for child in cases[f"S5.{word} (v)"]] == [("error", word)]
    assert (root.get("tests"), root.get("failures"), root.get("errors"), root.get("skipped")) == ("4", "1", "2", "0")


def test_a_run_without_verdicts_is_an_error_and_not_an_empty_suite(tmp_path: Path) -> None:
    """Collectors read a suite without tests as passed."""
    root = written(tmp_path, [])
    assert (root.get("tests"), root.get("errors")) == ("1", "1")


def test_figure_and_reason_survive_whatever_characters_they_hold(tmp_path: Path) -> None:
    """Markup is escaped, and characters that XML cannot hold are replaced."""
    root = written(tmp_path, [verdict("broken", reason="<a>&\x00\x1b[0m\ud800 done")])
    failure = next(root.iter("failure"))
    assert failure.get("message") == "<a>&\ufffd\ufffd[0m\ufffd done"
    assert "12 s" in (failure.text or "")
    assert "bound: 10 s" in (failure.text or "")
