"""`chaos steady`: the declared load for a while, with nothing broken: what experiments are compared with."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from gameday import measure
from gameday.activities import await_steady, begin_loads, check_alive, end_loads, stop_loads
from gameday.cli_cluster import region_option
from gameday.cli_errors import ChaosCommand, says_errors
from gameday.clusters import TOPOLOGY, memory_in_use
from gameday.engine import find_engine
from gameday.errors import ExitCode, UsageError
from gameday.machine import MachineWatch
from gameday.records import (
    Recorder,
    Request,
    missing_writes,
    read_ledger,
    read_read_back,
    read_requests,
    read_workloads,
)
from gameday.regions import alone_in, api_client, check_opt_in, region_named
from gameday.session import Session, enter, leave
from gameday.settle import SETTLE_DEADLINE_S, settle
from gameday.timeline import Timeline, now, read_timeline
from gameday.topology import load_topology
from gameday.watcher import ClusterWatch
from lakehouse.deploy import deployed, endpoints
from loadgen.schedule import ARRIVALS_PER_S, declared_rates
from probes.cluster import NAMESPACE

RATE_DEVIATION_MAX = 0.02
_MEMORY_EVERY_S = 15.0
_PACE_S = 2.0


@dataclass(frozen=True)
class Steady:
    """What one engine's clients saw: operations, those that failed, their rate a second and the one declared."""

    engine: str
    operations: int
    failed: int
    rate_per_s: float
    declared_per_s: float
    latency_p50_s: float | None
    latency_p95_s: float | None

    @property
    def as_declared(self) -> bool:
        """Whether nothing failed and the rate is within 2 % of what is declared."""
        return not self.failed and abs(self.rate_per_s / self.declared_per_s - 1) <= RATE_DEVIATION_MAX


@click.command(cls=ChaosCommand)
@region_option
@click.option("--seconds", default=300, show_default=True, type=click.IntRange(20, 3600), help="How long to look.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON, for machines.")
@says_errors
def steady(region: str, seconds: int, *, as_json: bool) -> None:
    """Put the lakehouse under its declared load and break nothing: what "no impact" will be compared with.

    Says for each engine whether all operations succeeded and came at the declared rate, whether every write that was
    acknowledged is there, and what it costs to watch and to record them. Exit codes: 0 where so, 2 where not, as
    experiments would prove little then.
    """
    chosen, engine, topology = region_named(region), find_engine(), load_topology(TOPOLOGY)
    api = api_client(chosen.kubeconfig)
    check_opt_in(api, chosen.name)
    known = endpoints(chosen, engine)
    with alone_in(chosen), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timeline = Timeline(folder / "timeline.jsonl")
        session = Session(chosen, engine, api, topology, folder, timeline, known)
        session.awaiting = lambda awaited, _deadline_s, seen: click.echo(f"  waiting for {awaited}: {seen}", err=True)
        enter(session)
        try:
            settle(session, SETTLE_DEADLINE_S)
            found = _look(session, float(seconds))
        finally:
            stop_loads(session)
            leave()
    _tell(found, as_json=as_json)
    wrong = found["workloads_failed"] or found["writes_missing"]
    good = all(one.as_declared for one in found["engines"]) and not wrong
    raise click.exceptions.Exit(int(ExitCode.HELD if good else ExitCode.INCONCLUSIVE))


def _look(session: Session, seconds: float) -> dict[str, Any]:
    names = [formation.name for formation in deployed(session.api) if formation.name in ARRIVALS_PER_S]
    if not names:
        raise UsageError("no formation has a load")
    watch, machine = ClusterWatch(session, [NAMESPACE]), MachineWatch(session)
    watch.start()
    begin_loads(names, [_job(seconds, session.topology.zones)])
    await_steady()
    _, begin = now()
    machine.start()
    cpu_s, memory = time.process_time(), [memory_in_use(session.region, session.engine)]
    looking_s = 0.0
    while (left := begin + seconds - now()[1]) > 0:
        check_alive(session)
        time.sleep(min(left, _MEMORY_EVERY_S))
        before = time.process_time()
        memory.append(memory_in_use(session.region, session.engine))
        looking_s += time.process_time() - before
    cpu_s = time.process_time() - cpu_s - looking_s
    _, end = now()
    machine.stop()
    watch.stop()
    # reads back what they wrote, and tidies up: what a load leaves slows the next one down
    end_loads(names)
    requests = [request for request in read_requests(session.folder) if begin <= request.intended < end - 5.0]
    workloads = read_workloads(session.folder)
    return {
        "seconds": round(end - 5.0 - begin, 1),
        "engines": [_seen(name, requests, begin, end - 5.0) for name in names],
        "workloads": len(workloads),
        "workloads_failed": [f"{one.name}: {one.last.error}" for one in workloads if one.last.state == "failed"],
        "writes_missing": missing_writes(read_ledger(session.folder), read_read_back(session.folder)),
        "watching_core_share": round(cpu_s / (end - begin), 4),
        "recording_core_share": round(_recording_s(session.folder, requests) / (end - 5.0 - begin), 4),
        "cores": measure.mean_cores(read_timeline(session.timeline.path)),
        "memory_bytes_max": max(memory),
    }


def _job(seconds: float, zones: tuple[str, ...]) -> dict[str, Any]:
    partitions = 4
    rounds = int(seconds / (partitions * _PACE_S)) + 2
    arguments = {"rows": 40_000, "partitions": partitions, "rounds": rounds, "pace_s": _PACE_S, "seed": 7}
    return {"name": "steady", "executors": 1, "driver_zones": [zones[0]], "arguments": arguments}


def _seen(name: str, requests: list[Request], begin: float, end: float) -> Steady:
    own = [request for request in requests if request.engine == name]
    return Steady(
        engine=name,
        operations=len(own),
        failed=measure.failures(own),
        rate_per_s=measure.rate_per_s(own, begin, end),
        declared_per_s=sum(declared_rates(name, ARRIVALS_PER_S[name]).values()),
        latency_p50_s=measure.latency_s(own, 0.5),
        latency_p95_s=measure.latency_s(own, 0.95),
    )


def _recording_s(folder: Path, requests: list[Request]) -> float:
    """Return the CPU seconds that it takes to write these requests down once more."""
    again = folder / "again"
    again.mkdir()
    recorder = Recorder(again, "again")
    before = time.process_time()
    for request in requests:
        recorder.request(request)
    spent = time.process_time() - before
    recorder.close()
    return spent


def _tell(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        plain = {**found, "engines": [asdict(one) | {"as_declared": one.as_declared} for one in found["engines"]]}
        click.echo(json.dumps(plain, indent=2))
        return
    table = Table("engine", "operations", "failed", "a second", "declared", "p50", "p95", title_justify="left")
    for one in found["engines"]:
        latency = [f"{value * 1000:.0f} ms" if value is not None else "none" for value in _latencies(one)]
        rate, declared = f"{one.rate_per_s:.2f}", f"{one.declared_per_s:g}"
        table.add_row(one.engine, str(one.operations), str(one.failed), rate, declared, *latency)
    console = Console()
    console.print(table)
    for failed in found["workloads_failed"]:
        console.print(f"failed: {failed}", soft_wrap=True)
    if missing := found["writes_missing"]:
        console.print(f"acknowledged, and not found again: {len(missing)} writes, such as {missing[0]}", soft_wrap=True)
    console.print(
        f"{found['seconds']:g} s · watching {found['watching_core_share']:.1%} of a core, recording"
        f" {found['recording_core_share']:.1%} · memory in use at most {found['memory_bytes_max'] / 2**30:.2f} GiB ·"
        f" cores used: {measure.cores_text(found['cores'])}",
        soft_wrap=True,
    )


def _latencies(one: Steady) -> tuple[float | None, float | None]:
    return one.latency_p50_s, one.latency_p95_s
