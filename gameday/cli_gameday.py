"""`chaos gameday`: many experiments one after the other, and one answer for all of them."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console

from gameday.cli_cluster import region_option
from gameday.cli_errors import ChaosCommand, says_errors
from gameday.cli_lakehouse import images_option
from gameday.cli_results import contract_option
from gameday.cli_run import runs_option
from gameday.clusters import TOPOLOGY
from gameday.clusters import up as cluster_up
from gameday.contract import load_contract
from gameday.engine import find_engine
from gameday.errors import ExitCode, UsageError, worst
from gameday.experiment import Experiment, check_experiment, load_experiment
from gameday.judge import Verdict, read_verdicts, write_verdicts
from gameday.narrowing import narrow
from gameday.progress import verdict_table
from gameday.regions import alone_in, region_named
from gameday.report import write_report
from gameday.report_junit import write_junit
from gameday.topology import load_topology
from lakehouse.deploy import up as lakehouse_up
from lakehouse.formation import ImageSource
from lakehouse.formations import FORMATIONS, named
from lakehouse.images import node_images
from nodeimage.steps import say


@click.command(cls=ChaosCommand)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@region_option
@runs_option
@click.option("--up", is_flag=True, help="Bring the cluster and the lakehouse up first, where they are not.")
@click.option(
    "--engine",
    "names",
    type=click.Choice([formation.name for formation in FORMATIONS]),
    multiple=True,
    help="Put this engine alone to the test, or several: experiments are narrowed to them, those that need another are"
    " left out, and --up deploys no other.  [default: all]",
)
@images_option
@contract_option
@says_errors
def gameday(
    paths: tuple[Path, ...],
    region: str,
    runs: Path,
    names: tuple[str, ...],
    images: str,
    contract_path: Path,
    *,
    up: bool,
) -> None:
    """Run experiments, files or folders of them, one process each, and report on all promises together.

    Those of a folder begin with the faults that concern the fewest zones, which leave the least to settle after them.
    `chaos gameday --up --engine mds experiments/zone-outage` asks of the metadata service alone what all are asked.

    The exit code is the worst of all runs: 0 all held, 1 one broken, 2 inconclusive, 3 harness error, 64 bad usage.
    """
    if ImageSource(images) is not ImageSource.PACKAGES and not up:
        raise UsageError(f"--images {images} says what to bring up, so it goes with --up")
    contract, topology = load_contract(contract_path), load_topology(TOPOLOGY)
    chosen = region_named(region)
    experiments = _experiments(paths, partial(load_experiment, contract=contract, topology=topology))
    check = partial(check_experiment, contract=contract, topology=topology)
    engines = named(names)
    if names:
        experiments = _about(experiments, [engine.name for engine in engines], check)
    started = time.monotonic()
    if up:
        with alone_in(chosen):
            cluster_up(chosen, lambda engine: node_images(engine, "auto"))
            lakehouse_up(chosen, find_engine(), formations=engines, source=ImageSource(images))
        say(f"  the lakehouse is up after {time.monotonic() - started:.0f} s")
    folder = runs / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-gameday"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"the run folder {folder} cannot be written: {error.strerror}") from error
    files = [_narrowed(one, folder) if names else one.path for one in experiments]
    codes: list[ExitCode] = []
    for number, file in enumerate(files, start=1):
        code, stopped = _run(file, contract_path, region, folder, number, len(files))
        codes.append(code)
        if stopped:
            # what was left out is no success
            codes.append(ExitCode.INCONCLUSIVE)
            break
    found = {path: read_verdicts(path) for path in sorted(folder.iterdir()) if (path / "verdicts.json").exists()}
    verdicts = [verdict for items in found.values() for verdict in items]
    write_verdicts(folder, verdicts)
    write_junit(found, folder / "junit.xml")
    write_report(list(found), found, folder / "report.html", contract)
    _tell(verdicts, codes, names, folder, time.monotonic() - started)
    raise click.exceptions.Exit(int(worst(codes)))


def _experiments(paths: Sequence[Path], load: Callable[[Path], Experiment]) -> list[Experiment]:
    """Return the experiments to run, all of them checked by `load`."""
    experiments: list[Experiment] = []
    for path in paths:
        found = sorted(path.rglob("*.yaml")) if path.is_dir() else [path]
        if not found or not found[0].is_file():
            raise UsageError(f"there is no experiment in {path}")
        experiments += sorted(map(load, found), key=lambda experiment: experiment.zones_broken)
    return experiments


def _about(
    experiments: Sequence[Experiment], engines: Sequence[str], check: Callable[[Path, dict[str, Any]], Experiment]
) -> list[Experiment]:
    """Return those that are about one of the engines and need no other, on these engines alone; say which are not.

    Raises UsageError where none is left, and what `check` raises of one.
    """
    kept: list[Experiment] = []
    for experiment in experiments:
        chosen = [engine for engine in engines if engine in experiment.engines]
        others = [engine for engine in experiment.needs if engine not in engines]
        if not chosen or others:
            say(f"  left out: {experiment.path}, which is about {', '.join(others or experiment.engines)}")
            continue
        kept.append(check(experiment.path, narrow(experiment.document, chosen)))
    if not kept:
        raise UsageError(f"no experiment of these is about {', '.join(engines)} alone: name the engines that they need")
    return kept


def _narrowed(experiment: Experiment, folder: Path) -> Path:
    """Write an experiment as it is run into the folder of the game day; return its path."""
    path = folder / "experiments" / f"{experiment.name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(experiment.document, sort_keys=False), encoding="utf-8")
    return path


def _run(file: Path, contract_path: Path, region: str, folder: Path, number: int, count: int) -> tuple[ExitCode, bool]:
    """Run one experiment in a process of its own, as Chaos Toolkit wants; return its exit code and whether to stop.

    The process is forked: what we imported, in seconds of work, it has.
    """
    say(f"\nexperiment {number} of {count}: {file}")
    arguments = ["--no-version-check", "--log-file", str(folder / f"{file.stem}.log"), "run", "--region", region]
    arguments += ["--runs", str(folder), "--contract", str(contract_path), str(file)]
    chaos = click.get_current_context().find_root().command
    process = get_context("fork").Process(target=_in_child, args=(chaos, arguments))
    signals: list[int] = []

    def forward(caught: int, _frame: object) -> None:
        signals.append(caught)
        # it may have ended, and its number be another's
        if process.pid and process.is_alive():
            os.kill(process.pid, caught)
        say("  stopping: the experiment heals what it broke, then the game day ends")

    process.start()
    before = {caught: signal.signal(caught, forward) for caught in (signal.SIGINT, signal.SIGTERM)}
    try:
        process.join()
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)
    return _meaning(process.exitcode, folder, file), bool(signals)


def _in_child(chaos: click.Command, arguments: list[str]) -> None:
    """Be `chaos` with these arguments, as if it had been started by them."""
    # a session of its own, so that Ctrl-C comes to it once, from us, and its healing is waited for
    os.setsid()
    # what we log to is ours
    logger = logging.getLogger("chaostoolkit")
    logger.handlers.clear()
    logger.filters.clear()
    chaos.main(arguments, prog_name="chaos")


def _meaning(code: int | None, folder: Path, file: Path) -> ExitCode:
    """Return what the exit code of a run means; 1 is what any program ends with that crashed, so it needs a verdict."""
    verdicts = [
        verdict for path in folder.glob(f"*-{file.stem}/verdicts.json") for verdict in read_verdicts(path.parent)
    ]
    broken = any(verdict.verdict == "broken" for verdict in verdicts)
    if code is None or code not in ExitCode or (code == ExitCode.BROKEN and not broken):
        return ExitCode.HARNESS_ERROR
    return ExitCode(code)


def _tell(
    verdicts: Sequence[Verdict], codes: Sequence[ExitCode], engines: Sequence[str], folder: Path, took_s: float
) -> None:
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
    # a promise about all engines that held was asked of these alone
    of = f" of {', '.join(engines)} alone" if engines else ""
    asked = f"{len(promises)} promises in {len(codes)} experiments{of}"
    console.print(f"{asked}: {counts or 'none judged'} · {took_s:.0f} s", soft_wrap=True)
    console.print(
        f"game day {folder} · report {folder / 'report.html'} · exit code {int(worst(list(codes)))}", soft_wrap=True
    )
