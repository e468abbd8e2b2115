"""`chaos gameday`: many experiments one after the other, and one answer for all of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console

from gameday.cli_cluster import region_option
from gameday.cli_errors import says_errors
from gameday.cli_run import CONTRACT, runs_option
from gameday.clusters import TOPOLOGY
from gameday.clusters import up as cluster_up
from gameday.contract import load_contract
from gameday.engine import find_engine
from gameday.errors import ExitCode, UsageError, worst
from gameday.experiment import load_experiment
from gameday.judge import Verdict, read_verdicts, write_verdicts
from gameday.progress import verdict_table
from gameday.regions import region_named
from gameday.report import write_report
from gameday.report_junit import write_junit
from gameday.topology import load_topology
from lakehouse.deploy import up as lakehouse_up
from lakehouse.images import node_images
from nodeimage.steps import say


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@region_option
@runs_option
@click.option("--up", is_flag=True, help="Bring the cluster and the lakehouse up first, where they are not.")
@says_errors
def gameday(paths: tuple[Path, ...], region: str, runs: Path, *, up: bool) -> None:
    """Run experiments, files or folders of them, one process each, and report on all promises together.

    The exit code is the worst of all runs: 0 all held, 1 one broken, 2 inconclusive, 3 harness error, 64 bad usage.
    """
    contract, topology = load_contract(CONTRACT), load_topology(TOPOLOGY)
    chosen, files = region_named(region), _experiments(paths)
    for file in files:
        load_experiment(file, contract, topology)
    started = time.monotonic()
    if up:
        cluster_up(chosen, lambda engine: node_images(engine, "auto"))
        lakehouse_up(chosen, find_engine())
        say(f"  the lakehouse is up after {time.monotonic() - started:.0f} s")
    folder = runs / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-gameday"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"the run folder {folder} cannot be written: {error.strerror}") from error
    codes = [_run(file, region, folder, number, len(files)) for number, file in enumerate(files, start=1)]
    found = {path: read_verdicts(path) for path in sorted(folder.iterdir()) if (path / "verdicts.json").exists()}
    verdicts = [verdict for items in found.values() for verdict in items]
    write_verdicts(folder, verdicts)
    write_junit(found, folder / "junit.xml")
    write_report(list(found), found, folder / "report.html", contract)
    _tell(verdicts, codes, folder, time.monotonic() - started)
    raise click.exceptions.Exit(int(worst(codes)))


def _experiments(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        found = sorted(path.rglob("*.yaml")) if path.is_dir() else [path]
        if not found or not found[0].is_file():
            raise UsageError(f"there is no experiment in {path}")
        files += found
    return files


def _run(file: Path, region: str, folder: Path, number: int, count: int) -> ExitCode:
    """Run one experiment in a process of its own: Chaos Toolkit wants one run a process, on its main thread."""
    say(f"\nexperiment {number} of {count}: {file}")
    chaos = Path(sys.executable).with_name("chaos")
    command = [
        str(chaos),
        "--log-file",
        str(folder / f"{file.stem}.log"),
        "run",
        "--region",
        region,
        "--runs",
        str(folder),
    ]
    done = subprocess.run([*command, str(file)], env=dict(os.environ), check=False)
    try:
        return ExitCode(done.returncode)
    except ValueError:
        return ExitCode.HARNESS_ERROR


def _tell(verdicts: Sequence[Verdict], codes: Sequence[ExitCode], folder: Path, took_s: float) -> None:
    console = Console()
    console.print(verdict_table(sorted(verdicts, key=lambda verdict: verdict.promise)))
    promises = sorted({verdict.promise for verdict in verdicts})
    order = ("broken", "harness error", "inconclusive", "held")
    worst_of = {
        promise: min((verdict.verdict for verdict in verdicts if verdict.promise == promise), key=order.index)
        for promise in promises
    }
    counts = ", ".join(
        f"{sum(verdict == name for verdict in worst_of.values())} {name}" for name in order if name in worst_of.values()
    )
    console.print(f"{len(promises)} promises in {len(codes)} experiments: {counts or 'none judged'} · {took_s:.0f} s")
    console.print(
        f"game day {folder} · report {folder / 'report.html'} · exit code {int(worst(list(codes)))}", soft_wrap=True
    )
