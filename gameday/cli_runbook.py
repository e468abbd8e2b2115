"""`chaos runbook`: how the lakehouse is mended, step by step, by hand or by an experiment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gameday.cli_cluster import region_option
from gameday.cli_errors import ChaosGroup, says_errors
from gameday.engine import find_engine
from gameday.errors import HarnessError, UsageError
from gameday.regions import alone_in, api_client, check_opt_in, region_named
from gameday.timeline import Timeline
from runbooks.all import RUNBOOKS
from runbooks.runbook import Runbook, Situation, carry_out, looked_at

name_argument = click.argument("name", metavar="NAME", type=click.Choice([runbook.name for runbook in RUNBOOKS]))


@click.group(cls=ChaosGroup)
def runbook() -> None:
    """Mend the lakehouse as its operators and its customers do.

    Each step says who takes it, and is written down with its beginning, its end and what was seen.
    """


@runbook.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON, for machines.")
@says_errors
def list_(*, as_json: bool) -> None:
    """Say which runbooks there are, and when each is to be taken."""
    if as_json:
        click.echo(json.dumps([_as_json(one) for one in RUNBOOKS], indent=2))
        return
    table = Table("runbook", "what it does", "when", "steps")
    for one in RUNBOOKS:
        table.add_row(one.name, escape(one.title), escape(one.when), str(len(one.steps)))
    Console().print(table)


@runbook.command()
@name_argument
@click.option("--json", "as_json", is_flag=True, help="Print the runbook as JSON, for machines.")
@says_errors
def show(name: str, *, as_json: bool) -> None:
    """Show the steps of a runbook, who takes each, and what may be said to it."""
    one = _named(name)
    if as_json:
        click.echo(json.dumps(_as_json(one), indent=2))
        return
    click.echo(f"{one.title}\nWhen: {one.when}\n")
    for number, step in enumerate(one.steps, 1):
        click.echo(f"{number}. {step.name} ({step.actor}): {step.text}")
    for parameter in one.parameters:
        default = "" if parameter.default is None else f"  [default: {parameter.default or 'none'}]"
        click.echo(f"\n--set {parameter.name}=…  {parameter.text}{default}")


@runbook.command()
@name_argument
@region_option
@click.option("--set", "given", metavar="PARAMETER=VALUE", multiple=True, help="A parameter of the runbook.")
@click.option("--dry-run", is_flag=True, help="Say what each step would act on, and touch nothing.")
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where the folder with the timeline is made.",
)
@says_errors
def run(name: str, region: str, given: tuple[str, ...], runs: Path, *, dry_run: bool) -> None:
    """Carry out a runbook on a region's lakehouse.

    The exit code is 3 where a step failed; later steps are not taken then.
    """
    one, chosen = _named(name), region_named(region)
    values = one.filled(_parsed(given))
    with alone_in(chosen):
        check_opt_in(api_client(chosen.kubeconfig), chosen.name)
        situation = Situation(chosen, find_engine(), values, lambda text: click.echo(text, err=True))
        if dry_run:
            for number, (step, seen) in enumerate(looked_at(one, situation), 1):
                click.echo(f"{number}. {step.name} ({step.actor}): {step.text}{f' → {seen}' if seen else ''}")
            return
        folder = _folder(runs, one)
        timeline = Timeline(folder / "timeline.jsonl")
        try:
            took_s = carry_out(one, situation, timeline)
        finally:
            timeline.close()
    click.echo(f"{one.title}: {len(one.steps)} steps in {took_s:.0f} s, written down in {timeline.path}")


def _named(name: str) -> Runbook:
    return next(one for one in RUNBOOKS if one.name == name)


def _parsed(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in given:
        name, separator, value = item.partition("=")
        if not separator or not name:
            raise UsageError(f"--set {item}: it has to be PARAMETER=VALUE")
        if name in found:
            raise UsageError(f"--set {name} is given twice")
        found[name] = value
    return found


def _folder(runs: Path, runbook: Runbook) -> Path:
    folder = runs / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{runbook.name}"
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise HarnessError(f"{folder} is there already: try again in a second") from error
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}") from error
    return folder


def _as_json(runbook: Runbook) -> dict[str, object]:
    return {
        "name": runbook.name,
        "title": runbook.title,
        "when": runbook.when,
        "parameters": [{"name": one.name, "text": one.text, "default": one.default} for one in runbook.parameters],
        "steps": [{"name": step.name, "actor": step.actor, "text": step.text} for step in runbook.steps],
    }
