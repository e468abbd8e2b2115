"""`chaos judge` and `chaos promises`: what old runs say, and what the experiments there are can say at all."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gameday import judge as judging
from gameday.cli_errors import ChaosCommand, says_errors
from gameday.contract import Contract, load_contract
from gameday.errors import ExitCode, UsageError, worst
from gameday.experiment import activities, read_document
from gameday.paths import CONTRACT, PROJECT
from gameday.progress import verdict_table
from gameday.report import headline, write_report
from gameday.report_junit import write_junit

PROMISES_MODULE = "probes.promises"

contract_option = click.option(
    "--contract",
    "contract_path",
    type=click.Path(path_type=Path),
    default=CONTRACT,
    help="The promises; by default the contract.yaml of the checkout.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def judge_run(folder: Path, contract: Contract) -> list[judging.Verdict]:
    """Judge a run folder and write verdicts.json, junit.xml and report.html into it; return the verdicts.

    Raises UsageError where `folder` is no run folder or cannot be written.
    """
    if not (folder / "meta.json").exists() and not (folder / "timeline.jsonl").exists():
        raise UsageError(f"{folder} is no run folder: it has neither a meta.json nor a timeline.jsonl")
    verdicts = judging.judge(folder, contract)
    try:
        judging.write_verdicts(folder, verdicts)
        write_junit({folder: verdicts}, folder / "junit.xml")
        write_report([folder], {folder: verdicts}, folder / "report.html", contract)
    except OSError as error:
        raise UsageError(f"the result cannot be written into {folder}: {error.strerror or error}") from error
    return verdicts


def result_code(verdicts_by_folder: Mapping[Path, Sequence[judging.Verdict]]) -> ExitCode:
    """Return the exit code of several runs; a run without a verdict is inconclusive."""
    return worst([judging.exit_code(list(verdicts)) for verdicts in verdicts_by_folder.values()])


@click.command(cls=ChaosCommand)
@click.argument("run_folders", metavar="RUN_FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@contract_option
@_json_option
@click.pass_context
@says_errors
def judge(context: click.Context, run_folders: tuple[Path, ...], contract_path: Path, *, as_json: bool) -> None:
    """Judge old run folders again, and write their verdicts, JUnit file and report anew.

    The exit code is that of the worst verdict: 0 all held, 1 broken, 2 inconclusive, 3 harness error; 64 bad usage.
    """
    contract = load_contract(contract_path)
    verdicts = {folder: judge_run(folder, contract) for folder in run_folders}
    code = result_code(verdicts)
    if as_json:
        runs = [
            {"folder": str(folder), "verdicts": [asdict(one) for one in given]} for folder, given in verdicts.items()
        ]
        click.echo(json.dumps({"exit_code": int(code), "runs": runs}, indent=2, ensure_ascii=False, default=str))
    else:
        console = Console()
        every = [one for given in verdicts.values() for one in given]
        console.print(verdict_table(every))
        console.print(Text(headline(every), style="bold"))
        for folder in verdicts:
            click.echo(f"report: {folder / 'report.html'}")
    context.exit(int(code))


@click.command(cls=ChaosCommand)
@contract_option
@click.option(
    "--experiments", type=click.Path(path_type=Path), default=PROJECT / "experiments", help="The folder of experiments."
)
@click.option("--disaster", type=int, help="Only the promises of this disaster.")
@click.option("--engine", help="Only the promises of this engine.")
@_json_option
@says_errors
def promises(
    contract_path: Path, experiments: Path, disaster: int | None, engine: str | None, *, as_json: bool
) -> None:
    """List all promises of the contract, and by which experiments each one is exercised."""
    contract = load_contract(contract_path)
    rows = [
        {**one.promise.model_dump(include={"id", "disaster", "engine", "promise"}), "exercised_by": one.exercised_by}
        for one in contract.coverage(exercised_by(experiments))
        if disaster in (None, one.promise.disaster) and engine in (None, one.promise.engine)
    ]
    if not rows:
        raise UsageError("the contract has no promise of this disaster and engine")
    exercised = sum(1 for row in rows if row["exercised_by"])
    if as_json:
        totals = {"promises": len(rows), "exercised": exercised, "not_exercised": len(rows) - exercised}
        click.echo(json.dumps({"promises": rows, "totals": totals}, indent=2, ensure_ascii=False))
        return
    Console().print(_promise_table(rows))
    click.echo(f"{exercised} of {len(rows)} promises are exercised, {len(rows) - exercised} are not yet.")


def exercised_by(experiments: Path) -> dict[str, list[str]]:
    """Return for each promise id the experiments (paths below `experiments`) with a probe that asserts it.

    Raises UsageError where the folder is missing or an experiment is no YAML.
    """
    if not experiments.is_dir():
        raise UsageError(f"{experiments} is no folder of experiments")
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(experiments.rglob("*.yaml")):
        document = read_document(path)
        asserted = {_promise_of(activity) for activity in activities(document)} if isinstance(document, dict) else set()
        for promise_id in sorted(asserted - {""}):
            found[promise_id].append(str(path.relative_to(experiments)))
    return dict(found)


def _promise_of(activity: Mapping[str, Any]) -> str:
    """Return the promise that a probe of `PROMISES_MODULE` asserts, and nothing for every other activity."""
    provider = activity.get("provider")
    if not isinstance(provider, dict) or provider.get("module") != PROMISES_MODULE:
        return ""
    arguments = provider.get("arguments")
    return str(arguments.get("promise", "")) if isinstance(arguments, dict) else ""


def _promise_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("promise", no_wrap=True)
    table.add_column("what is promised", ratio=1, overflow="fold")
    table.add_column("exercised by", overflow="fold")
    for row in rows:
        # the name alone, as runs have it: paths would be broken in the middle on a narrow terminal
        names = [Path(experiment).stem for experiment in row["exercised_by"]]
        by = Text("\n".join(names)) if names else Text("not exercised yet", style="yellow")
        table.add_row(Text(row["id"]), Text(row["promise"]), by)
    return table
