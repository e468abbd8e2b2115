"""`chaos run`, with the evidence, verdicts and exit codes of the harness, and `chaos recover`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from chaostoolkit.commands.run import run as toolkit_run
from kubernetes.client import ApiClient
from rich.console import Console

from faults.actions import heal_in
from faults.undo import outstanding
from gameday.cli_cluster import region_option
from gameday.cli_errors import ChaosCommand, says_errors
from gameday.cli_results import contract_option
from gameday.clusters import TOPOLOGY
from gameday.contract import load_contract
from gameday.engine import find_engine
from gameday.errors import ExitCode, HarnessError, Refused, UsageError
from gameday.experiment import Experiment, is_ours, load_experiment, read_document
from gameday.paths import PROJECT
from gameday.progress import Progress, verdict_table
from gameday.regions import Region, alone_in, api_client, check_opt_in, region_named
from gameday.run import Run, open_folder
from gameday.session import Session, enter, leave
from gameday.timeline import Timeline
from gameday.topology import load_topology
from lakehouse.deploy import deployed, endpoints, images_in_use
from lakehouse.formations import declared_figures

CONTROLS = PROJECT / "gameday" / "controls.yaml"
runs_option = click.option(
    "--runs",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    envvar="CHAOS_RUNS",
    help="Where run folders are made.",
)
kubeconfig_option = click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    default=None,
    help="A kubeconfig of the cluster; by default the region's own.",
)


def _run_ours(
    ctx: click.Context,
    experiment_path: Path,
    contract_path: Path,
    region: Region,
    runs: Path,
    kubeconfig: Path | None,
    rest: dict[str, Any],
) -> ExitCode:
    contract, topology = load_contract(contract_path), load_topology(TOPOLOGY)
    experiment = load_experiment(experiment_path, contract, topology)
    api = api_client(kubeconfig or region.kubeconfig)
    mark = check_opt_in(api, region.name)
    # faults reach the machines of this region on this host, whatever another kubeconfig leads to
    if kubeconfig and check_opt_in(api_client(region.kubeconfig), region.name) != mark:
        raise Refused(f"{kubeconfig} leads to another cluster than that of region {region.name} on this machine")
    engine = find_engine()
    known = endpoints(region, engine)
    _check_deployed(experiment, api, region)
    declared = {**topology.declared, **declared_figures()}
    folder = open_folder(runs, experiment, region.name, declared, topology.zones, images_in_use(api), contract_path)
    progress = Progress()
    session = Session(region, engine, api, topology, folder, Timeline(folder / "timeline.jsonl"), known, contract_path)
    session.awaiting = progress.awaiting
    run = Run(experiment, contract, session, progress)

    def toolkit() -> dict[str, Any]:
        # always, or an interrupt and a probe that raised would leave the fault in place
        options = {**rest, "rollback_strategy": "always", "journal_path": str(folder / "journal.json"), "no_exit": True}
        options["control_file"] = [*options.get("control_file", ()), str(CONTROLS)]
        journal: dict[str, Any] = ctx.invoke(toolkit_run, source=str(experiment_path), **options)
        return journal

    with alone_in(region):
        verdicts, code = run.execute(toolkit)
    console = Console()
    console.print(verdict_table(verdicts))
    console.print(f"run folder {folder} · report {folder / 'report.html'} · exit code {int(code)}", soft_wrap=True)
    return code


def _check_deployed(experiment: Experiment, api: ApiClient, region: Region) -> None:
    """Raise UsageError where an engine of the experiment is not deployed."""
    there = [formation.name for formation in deployed(api)]
    missing = [engine for engine in experiment.engines if engine not in there]
    if missing:
        raise UsageError(
            f"{experiment.path} is about {missing[0]}, which is not deployed: "
            f"run `chaos lakehouse up --region {region.name}` first"
        )


@says_errors
def _dispatch(ctx: click.Context, **options: Any) -> None:  # noqa: ANN401 - click hands over what it parsed
    """Send experiments of the lakehouse our way, and all others to Chaos Toolkit as they are."""
    region, runs, kubeconfig = options.pop("region"), options.pop("runs"), options.pop("kubeconfig")
    contract_path = options.pop("contract_path")
    source = options["source"]
    path = Path(source)
    if "://" in source or (path.is_file() and not is_ours(read_document(path))):
        ctx.invoke(toolkit_run, **options)
        return
    if not path.is_file():
        raise UsageError(f"there is no experiment {source}: experiments/ holds those of the lakehouse")
    if options.get("dry"):
        raise UsageError(
            "--dry breaks nothing, so it can say nothing of a promise: use `chaos validate` to check a file"
        )
    if options.get("hypothesis_strategy") not in (None, "default"):
        raise UsageError("--hypothesis-strategy: a promise is judged after the method, so only the default is possible")
    ours = {key: value for key, value in options.items() if key not in ("source", "rollback_strategy", "journal_path")}
    code = _run_ours(ctx, path, contract_path, region_named(region), runs, kubeconfig, ours)
    raise click.exceptions.Exit(int(code))


run: click.Command = ChaosCommand(
    "run",
    callback=click.pass_context(_dispatch),
    params=[*toolkit_run.params],
    help="""Run an experiment, a local file or a URL.

    An experiment of the lakehouse (experiments/) gets a run folder with all evidence, a verdict for each promise that
    it exercises, and a report. Exit codes: 0 all held, 1 one broken, 2 inconclusive, 3 harness error, 64 bad usage.
    Any other experiment is run by Chaos Toolkit as ever.
    """,
)
for _option in (region_option, runs_option, kubeconfig_option, contract_option):
    run = _option(run)


@click.command(cls=ChaosCommand)
@region_option
@click.option("--json", "as_json", is_flag=True, help="Print what was healed as JSON, for machines.")
@says_errors
def recover(region: str, *, as_json: bool) -> None:
    """Heal what a run that died left broken.

    The undo of every fault is on disk before the fault is injected; this heals all that is still written there, waits
    until it is usable again, and says what it did. It changes nothing where nothing is broken.
    """
    chosen = region_named(region)
    with alone_in(chosen):
        healed, failed = _heal_all(chosen)
    if as_json:
        click.echo(json.dumps({"region": region, "healed": healed}, indent=2))
    elif healed:
        nodes = ", ".join(node for item in healed for node in item["nodes"])
        click.echo(f"recovered region {region}: {len(healed)} fault(s) healed, {nodes} usable again")
    else:
        click.echo(f"nothing to recover in region {region}")
    if failed:
        raise HarnessError(f"not healed: {'; '.join(failed)}; run this again, or `chaos cluster down`")


def _heal_all(region: Region) -> tuple[list[dict[str, Any]], list[str]]:
    """Heal every outstanding fault, also after one that failed; return what was healed, and what was not and why."""
    left = outstanding(region)
    healed: list[dict[str, Any]] = []
    failed: list[str] = []
    if not left:
        return healed, failed
    session = _recovery_session(region)
    enter(session)
    for undo in left:
        click.echo(f"healing {undo.fault} in {', '.join(undo.zones)} (left by {undo.run_folder})", err=True)
        try:
            heal_in(session, undo.fault, undo.zones)
        except Exception as error:  # noqa: BLE001 - whatever keeps one from being healed, the others must not stay
            failed.append(f"{undo.fault} in {', '.join(undo.zones)} ({error or type(error).__name__})")
        else:
            healed.append(
                {"fault": undo.fault, "zones": undo.zones, "nodes": undo.nodes, "run_folder": undo.run_folder}
            )
    leave()
    return healed, failed


def _recovery_session(region: Region) -> Session:
    api = api_client(region.kubeconfig)
    check_opt_in(api, region.name)
    timeline = Timeline(region.folder / "recoveries.jsonl")
    session = Session(region, find_engine(), api, load_topology(TOPOLOGY), region.folder, timeline)
    session.awaiting = lambda awaited, _deadline_s, seen: click.echo(f"  waiting for {awaited}: {seen}", err=True)
    return session
