"""`chaos judge` and `chaos promises`: exit codes, what they write, and refusals of one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from report_runs import write_run

from gameday import cli_results
from gameday.cli_errors import says_errors
from gameday.contract import load_contract
from gameday.errors import DeadlinePassed, ExitCode, Inconclusive, UsageError
from gameday.judge import Verdict
from gameday.paths import PROJECT

EXPERIMENT = """
title: one zone
steady-state-hypothesis:
  title: steady
  probes:
    - type: probe
      name: promise
      tolerance: true
      provider: {{type: python, module: probes.promises, func: held, arguments: {{promise: {first}}}}}
method:
  - type: probe
    name: nested
    provider: {{type: python, module: probes.promises, func: held, arguments: {{promise: S5.customer}}}}
  - type: action
    name: another module is no assertion
    provider: {{type: python, module: faults.zone, func: inject, arguments: {{promise: S1.customer}}}}
"""


def run(command: click.Command, *arguments: str | Path) -> Result:
    """Run a command as the shell would."""
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that says which verdicts the judge will give, by name of the run folder."""

    def will_give(**words: list[str]) -> None:
        def judge(folder: Path, _: object) -> list[Verdict]:
            return [
                Verdict(
                    promise=f"S5.p{number}", verdict=word, figure="f", bound="b", reason="r", variant="v", evidence={}  # type: ignore[arg-type] # any word
                )
                for number, word in enumerate(words[folder.name])
            ]  # fmt: skip

        monkeypatch.setattr("gameday.cli_results.judging.judge", judge)

    return will_give


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["held", "held"], 0),
        (["held", "broken", "harness error"], 1),
        (["held", "inconclusive"], 2),
        (["inconclusive", "harness error"], 3),
        ([], 2),
    ],
)
def test_the_exit_code_is_that_of_the_worst_verdict(
    tmp_path: Path, judged: Callable[..., None], words: list[str], code: int
) -> None:
    """Nothing but held everywhere is 0, and a run without verdicts is inconclusive."""
    judged(one=words)
    result = run(cli_results.judge, write_run(tmp_path / "one"))
    assert result.exit_code == code, result.output


def test_a_run_without_verdicts_is_not_hidden_by_one_that_held(tmp_path: Path, judged: Callable[..., None]) -> None:
    """Of several runs the worst counts."""
    judged(one=["held"], two=[])
    result = run(cli_results.judge, write_run(tmp_path / "one"), write_run(tmp_path / "two"))
    assert result.exit_code == ExitCode.INCONCLUSIVE


def test_judging_again_rewrites_what_an_old_run_held(tmp_path: Path, judged: Callable[..., None]) -> None:
    """verdicts.json, junit.xml and report.html say what the judge says now, and the table shows it."""
    judged(one=["broken"])
    folder = write_run(tmp_path / "one")
    for name in ("verdicts.json", "junit.xml", "report.html"):
        (folder / name).write_text("old")
    result = run(cli_results.judge, folder)
    assert "S5.p0" in result.stdout
    assert "broken" in result.stdout
    assert "broken" in (folder / "verdicts.json").read_text()
    assert "<failure" in (folder / "junit.xml").read_text()
    assert "1 promise: 1 broken" in (folder / "report.html").read_text()


def test_json_is_all_that_goes_to_stdout(tmp_path: Path, judged: Callable[..., None]) -> None:
    """A program can read the verdicts and the exit code from stdout."""
    judged(one=["held", "inconclusive"])
    folder = write_run(tmp_path / "one")
    told = json.loads(run(cli_results.judge, folder, "--json").stdout)
    assert told["exit_code"] == 2
    assert [one["verdict"] for one in told["runs"][0]["verdicts"]] == ["held", "inconclusive"]
    assert told["runs"][0]["folder"] == str(folder)


def test_a_folder_that_is_no_run_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """Nothing is written into a folder that is none, and a missing one is not made."""
    for folder in (tmp_path, tmp_path / "missing"):
        result = run(cli_results.judge, folder)
        assert result.exit_code == ExitCode.USAGE
        assert result.stderr.count("\n") == 1
        assert str(folder) in result.stderr
        assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_cannot_be_written_is_said_in_one_sentence(tmp_path: Path, judged: Callable[..., None]) -> None:
    """A place that is taken is bad usage, not a traceback."""
    judged(one=["held"])
    folder = write_run(tmp_path / "one")
    (folder / "report.html").mkdir()
    result = run(cli_results.judge, folder)
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr.count("\n") == 1


def test_promises_says_by_which_experiment_each_is_exercised_and_which_are_not(tmp_path: Path) -> None:
    """A probe of the module of promises counts wherever it stands, another module's argument does not."""
    (tmp_path / "zone").mkdir()
    (tmp_path / "zone" / "one.yaml").write_text(EXPERIMENT.format(first="S5.mds.one-zone"))
    (tmp_path / "zone" / "two.yaml").write_text(EXPERIMENT.format(first="S5.mds.two-zones"))
    told = json.loads(run(cli_results.promises, "--experiments", tmp_path, "--json").stdout)
    by = {promise["id"]: promise["exercised_by"] for promise in told["promises"]}
    total = len(load_contract(PROJECT / "contract.yaml").promises)
    assert by["S5.customer"] == ["zone/one.yaml", "zone/two.yaml"]
    assert by["S5.mds.two-zones"] == ["zone/two.yaml"]
    assert by["S1.customer"] == []
    assert told["totals"] == {"promises": total, "exercised": 3, "not_exercised": total - 3}
    shown = run(cli_results.promises, "--experiments", tmp_path, "--disaster", "5").stdout
    assert "not exercised yet" in shown
    assert "promises are exercised" in shown
    assert "S1.customer" not in shown


def test_promises_can_be_narrowed_to_a_disaster_and_an_engine(tmp_path: Path) -> None:
    """Totals are of what is listed; a choice that leaves nothing is bad usage."""
    told = json.loads(
        run(cli_results.promises, "--experiments", tmp_path, "--json", "--disaster", "5", "--engine", "mds").stdout
    )
    assert [one["id"] for one in told["promises"]] == ["S5.mds.one-zone", "S5.mds.two-zones", "S5.mds.until"]
    assert told["totals"]["exercised"] == 0
    assert run(cli_results.promises, "--experiments", tmp_path, "--disaster", "9").exit_code == ExitCode.USAGE


@pytest.mark.parametrize("content", [EXPERIMENT.format(first="S9.none"), "a: [b"])
def test_an_experiment_that_makes_no_sense_is_refused_and_named(tmp_path: Path, content: str) -> None:
    """An unknown promise or broken YAML is one sentence with the name of the file."""
    (tmp_path / "odd.yaml").write_text(content)
    result = run(cli_results.promises, "--experiments", tmp_path)
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr.count("\n") == 1
    assert "odd.yaml" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("two\n lines"), 64), (Inconclusive("so"), 2), (DeadlinePassed("a", 5, "b"), 3)],
)
def test_an_error_of_the_harness_becomes_one_sentence_and_its_exit_code(error: Exception, code: int) -> None:
    """No traceback, one line on stderr, nothing on stdout."""

    @click.command()
    @says_errors
    def command() -> None:
        raise error

    result = run(command)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr == " ".join(str(error).split()) + "\n"
