"""`chaos soak`: pods of Milvus are killed at random, again and again, while clients write; nothing may be lost."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from kubernetes.client.exceptions import ApiException
from rich.console import Console
from rich.table import Table

from gameday.activities import begin_loads, check_alive, end_loads, stop_loads
from gameday.cli_cluster import region_option
from gameday.cli_errors import ChaosCommand, says_errors
from gameday.clusters import TOPOLOGY
from gameday.engine import find_engine
from gameday.errors import DeadlinePassed, ExitCode, HarnessError
from gameday.measure import failures
from gameday.records import read_ledger, read_read_back, read_requests
from gameday.regions import alone_in, api_client, check_opt_in, region_named
from gameday.session import Session, enter, leave
from gameday.settle import settle
from gameday.timeline import Tails, Timeline, now
from gameday.topology import load_topology
from lakehouse.deploy import endpoints
from lakehouse.milvus_formation import ETCD, KAFKA, NAME
from probes.cluster import NAMESPACE, serving_pods

_SETTLE_DEADLINE_S = 180.0
# A write is acknowledged again by then, or the soak ends: whatever was killed has come back by itself long before.
_WRITES_AGAIN_S = 120.0
_APP = "app.kubernetes.io/name"
_SHOWN_MAX = 10


@dataclass
class Soak:
    """What became of it: kills by part, and of all writes of clients those acknowledged, lost, doubled, unexpected.

    `unread` are places that could not be read back, with the reason; `longest_s` is the longest time from a kill to the
    next acknowledged write; `stuck` tells that none came in time, and after which kill; `interrupted` that fewer pods
    were killed than asked for.
    """

    seed: int
    kills: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    operations: int = 0
    failed: int = 0
    longest_s: float = 0.0
    stuck: str | None = None
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def exit_code(self) -> ExitCode:
        """Broken where a write is lost or there twice, or writes ended; inconclusive where that is not known."""
        if self.lost or self.doubled or self.unexpected or self.stuck:
            return ExitCode.BROKEN
        known = self.acknowledged and not self.unread and not self.interrupted
        return ExitCode.HELD if known else ExitCode.INCONCLUSIVE


@click.command(cls=ChaosCommand)
@region_option
@click.option("--kills", default=200, show_default=True, type=click.IntRange(1, 10_000), help="How many pods to kill.")
@click.option("--seed", type=int, help="Kill the same parts in the same order as before; by default another each time.")
@click.option(
    "--runs",
    default=Path("runs"),
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to keep what was recorded.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what became of it as JSON, for machines.")
@says_errors
def soak(region: str, kills: int, seed: int | None, runs: Path, *, as_json: bool) -> None:
    """Kill pods of Milvus, its etcd and its Kafka at random while clients write, and look for what is lost.

    Each kill is a SIGKILL without warning, of a pod that is ready, at a random moment. The next one comes once a write
    has been acknowledged again, whether or not the pod is back, so that kills fall on top of each other. In the end all
    that was acknowledged is read back; after Ctrl-C too, of the kills until then. Exit codes: 0 nothing lost, none
    doubled; 1 broken, also where Milvus did not come back; 2 not known.
    """
    chosen, engine = region_named(region), find_engine()
    api = api_client(chosen.kubeconfig)
    check_opt_in(api, chosen.name)
    known = endpoints(chosen, engine)
    found = Soak(random.SystemRandom().randrange(2**31) if seed is None else seed)
    with alone_in(chosen):
        folder = runs / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-soak"
        folder.mkdir(parents=True)
        timeline = Timeline(folder / "timeline.jsonl")
        session = Session(chosen, engine, api, load_topology(TOPOLOGY), folder, timeline, known)
        enter(session)
        try:
            _soak(session, kills, found)
        finally:
            stop_loads(session)
            leave()
    _tell(found, folder, as_json=as_json)
    raise click.exceptions.Exit(int(found.exit_code))


def _soak(session: Session, kills: int, found: Soak) -> None:
    settle(session, _SETTLE_DEADLINE_S)
    begin_loads([NAME])
    _, begin = now()
    session.timeline.append("soak.begin", "harness", seed=found.seed, kills=kills)
    try:
        _kill_all(session, kills, found)
    except KeyboardInterrupt:
        found.interrupted = True
        click.echo("interrupted: what was written until now is read back", err=True)
    found.seconds = now()[1] - begin
    try:
        settle(session, _SETTLE_DEADLINE_S)
    except DeadlinePassed as error:
        # a lakehouse that does not come back is what was looked for, and its writes are read back all the more
        found.stuck = found.stuck or str(error)
    end_loads([NAME])
    _look(session.folder, found)


def _kill_all(session: Session, kills: int, found: Soak) -> None:
    chance, acknowledged = random.Random(found.seed), _acknowledgements(session.folder)  # noqa: S311 - no secret
    for number in range(1, kills + 1):
        time.sleep(chance.random())
        check_alive(session)
        part = chance.choice((NAME, ETCD, KAFKA))
        try:
            pod = _kill(session, part, chance)
        except DeadlinePassed as error:
            found.stuck = f"{error}, before kill number {number}"
            break
        _, killed = now()
        session.timeline.append("soak.kill", "fault", pod=pod, number=number)
        found.kills[part] = found.kills.get(part, 0) + 1
        if (again := _written_again(session, acknowledged, killed)) is None:
            found.stuck = f"no write was acknowledged for {_WRITES_AGAIN_S:g} s after {pod} was killed, number {number}"
            break
        found.longest_s = max(found.longest_s, again - killed)
        click.echo(f"{number} of {kills}: {pod}, a write was acknowledged {again - killed:.1f} s later", err=True)


def _kill(session: Session, part: str, chance: random.Random) -> str:
    """Kill a ready pod of a part of Milvus and return its name; raises DeadlinePassed where none becomes ready.

    Its processes get SIGKILL from the node it is on, since Kubernetes would give them two seconds to take their leave.
    Then the pod is deleted, so that another takes its place at once and not after the time that a crashed one waits.
    """

    def ready() -> list[Any]:
        pods = [pod for pod in serving_pods(session, NAME) if pod.metadata.labels.get(_APP) == part]
        return sorted(pods, key=lambda pod: str(pod.metadata.name))

    session.wait(f"a pod of {part} to be ready", lambda: None if ready() else "none is", _WRITES_AGAIN_S)
    pod = chance.choice(ready())
    for status in pod.status.container_statuses:
        container = str(status.container_id).rpartition("/")[2]
        command = ("ctr", "--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", container)
        session.engine.call("exec", pod.spec.node_name, *command)
    try:
        session.core.delete_namespaced_pod(pod.metadata.name, NAMESPACE, grace_period_seconds=0)
    except ApiException as error:
        raise HarnessError(f"the pod {pod.metadata.name} was not deleted: {error.reason}") from error
    return str(pod.metadata.name)


def _acknowledgements(folder: Path) -> Iterator[float]:
    """Yield the latest moment at which a write was acknowledged (monotonic seconds), each time it is asked for."""
    ledger = Tails(folder, "ledger-*.jsonl")
    latest = 0.0
    while True:
        latest = max([latest, *(line["mono"] for line in ledger.read() if line["state"] == "acknowledged")])
        yield latest


def _written_again(session: Session, acknowledged: Iterator[float], killed: float) -> float | None:
    """Return when a write was acknowledged that ended after a kill, None where none was in time."""
    seen = [0.0]

    def look() -> str | None:
        check_alive(session)
        seen[0] = next(acknowledged)
        return None if seen[0] > killed else "none since the kill"

    try:
        session.wait("a write to be acknowledged", look, _WRITES_AGAIN_S, every_s=0.1)
    except DeadlinePassed:
        return None
    return seen[0]


def _look(folder: Path, found: Soak) -> None:
    """Hold what was read back against the ledger."""
    ledger = read_ledger(folder)
    acknowledged = {(entry.place, entry.item) for entry in ledger if entry.state == "acknowledged"}
    attempted = {(entry.place, entry.item) for entry in ledger}
    read = {one.place: one for one in read_read_back(folder)}
    found.unread = [f"{place}: {one.error}" for place, one in read.items() if one.error]
    found.unread += sorted({f"{place}: not read back" for place, _ in acknowledged if place not in read})
    counts = Counter((place, item) for place, one in read.items() for item in one.items)
    known = {(place, item) for place, item in acknowledged if place in read and not read[place].error}
    found.acknowledged = len(acknowledged)
    found.lost = sorted("/".join(one) for one in known - counts.keys())
    found.doubled = sorted("/".join(one) for one, count in counts.items() if count > 1)
    found.unexpected = sorted("/".join(one) for one in counts.keys() - attempted)
    requests = read_requests(folder)
    found.operations, found.failed = len(requests), failures(requests)


def _tell(found: Soak, folder: Path, *, as_json: bool) -> None:
    if as_json:
        plain: dict[str, Any] = {**asdict(found), "folder": str(folder), "exit_code": int(found.exit_code)}
        click.echo(json.dumps(plain, indent=2))
        return
    table = Table("what", "figure", title_justify="left")
    for part, count in sorted(found.kills.items()):
        table.add_row(f"kills of {part}", str(count))
    table.add_row("writes acknowledged", str(found.acknowledged))
    for name in ("lost", "doubled", "unexpected", "unread"):
        items: list[str] = getattr(found, name)
        shown = ", ".join(items[:_SHOWN_MAX]) + (" …" if len(items) > _SHOWN_MAX else "")
        table.add_row(name, f"{len(items)}{': ' if items else ''}{shown}")
    table.add_row("operations of clients, failed", f"{found.operations}, {found.failed}")
    table.add_row("longest from a kill to a write", f"{found.longest_s:.1f} s")
    console = Console()
    console.print(table)
    for told in (found.stuck, "interrupted before all kills that were asked for" if found.interrupted else None):
        if told:
            console.print(told, soft_wrap=True)
    kills = sum(found.kills.values())
    console.print(
        f"{kills} kills in {found.seconds:.0f} s · seed {found.seed} · recorded in {folder} · exit code"
        f" {int(found.exit_code)}",
        soft_wrap=True,
    )
