"""One run: opens the run folder, lets Chaos Toolkit execute the experiment, heals, settles, judges and reports."""

from __future__ import annotations

import importlib.metadata
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from faults.actions import heal_in
from faults.undo import Undo, outstanding
from gameday.alerts import AlertReceiver
from gameday.contract import Contract
from gameday.errors import ChaosError, ExitCode, Inconclusive, UsageError
from gameday.experiment import Experiment
from gameday.judge import Verdict, exit_code, judge, write_verdicts
from gameday.machine import MachineWatch
from gameday.progress import Progress
from gameday.progress_feed import Feed
from gameday.provider_role import NODE_REMOVAL_DELAY_S, ProviderRole
from gameday.report import write_report
from gameday.report_junit import write_junit
from gameday.session import Session, enter, leave
from gameday.settle import SETTLE_DEADLINE_S, leave_settling, settle
from gameday.timeline import Timeline, now, read_timeline
from gameday.topology import host_size
from gameday.watcher import ClusterWatch
from nodeimage.cache import key_of
from probes.cluster import NAMESPACE
from probes.promises import NOT_JUDGED_YET

_LOAD_STOP_DEADLINE_S = 20.0


@dataclass
class Run:
    """One experiment on one region, from the opening of its folder to its verdicts."""

    experiment: Experiment
    contract: Contract
    session: Session
    progress: Progress
    interrupted: str | None = None
    refused: bool = False

    def execute(self, toolkit: Callable[[], dict[str, Any]]) -> tuple[list[Verdict], ExitCode]:
        """Run the experiment by `toolkit`, which returns Chaos Toolkit's journal; always heals, always judges."""
        session = self.session
        enter(session)
        # a SIGTERM is a Ctrl-C outside of Chaos Toolkit's own part; and both count, even where a shell that started us
        # in the background had SIGINT ignored
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        session.verdict_of = self._verdict_of
        session.timeline.append("run.begin", "harness")
        watch, provider = ClusterWatch(session, [NAMESPACE]), ProviderRole(session)
        alerts, machine = AlertReceiver(session.timeline), MachineWatch(session)
        feed = Feed(session.folder, self.progress, session.topology.zones)
        self.progress.start()
        feed.start()
        try:
            self._preflight()
            watch.start()
            alerts.start(session.engine.gateway(session.region.network))
            provider.start()
            machine.start()
            self._note_journal(toolkit())
        except Inconclusive as error:
            session.timeline.append("preflight.failed", "harness", message=str(error))
            self.progress.note(str(error))
        except KeyboardInterrupt:
            self.interrupted = "interrupted"
            session.timeline.append("run.interrupted", "harness", status="interrupted")
        except Exception as error:  # noqa: BLE001 - whatever it is, the run is healed, judged and reported
            self._error("run", error)
        finally:
            with _signals_ignored():
                self._clean_up()
            provider.stop()
            watch.stop()
            machine.stop()
            alerts.stop()
            feed.stop()
            self.progress.stop()
            leave()
        return self._conclude()

    def _preflight(self) -> None:
        """Make sure that the lakehouse is whole before anything is broken; raises Inconclusive where it is not."""
        left = outstanding(self.session.region)
        if left:
            zones = ", ".join(zone for undo in left for zone in undo.zones)
            self.refused = True
            raise Inconclusive(f"an earlier run left a fault in {zones}: run `chaos recover` first")
        self.progress.phase("preflight")
        try:
            settle(self.session, SETTLE_DEADLINE_S)
        except ChaosError as error:
            raise Inconclusive(f"the lakehouse is not healthy, so nothing was broken: {error}") from error

    def _note_journal(self, journal: dict[str, Any]) -> None:
        """Write down what Chaos Toolkit forgives: an activity that failed leaves its status "completed"."""
        found = journal.get("steady_states") or {}
        activities = [*(journal.get("run") or []), *(journal.get("rollbacks") or [])]
        activities += [probe for state in found.values() if state for probe in state.get("probes") or []]
        for activity in activities:
            # one that was interrupted has no status
            if activity.get("status") == "failed":
                trace = activity.get("exception") or ["no reason given"]
                message = f"{activity['activity']['name']}: {str(trace[-1]).strip()}"
                self.session.timeline.append("error", "harness", where="activity", message=message)
        self._note_after(found.get("after"))
        before = (journal.get("steady_states") or {}).get("before")
        if before and not before["steady_state_met"]:
            raise Inconclusive("the steady state was not met before the method: nothing was broken")
        if journal["status"] in ("interrupted", "aborted"):
            self.interrupted = journal["status"]
            self.session.timeline.append("run.interrupted", "harness", status=journal["status"])

    def _note_after(self, state: dict[str, Any] | None) -> None:
        """Write down that the lakehouse was not whole in the end; a promise that is not held speaks for itself."""
        for probe in (state or {}).get("probes") or []:
            activity = probe.get("activity") or {}
            promised = (activity.get("provider") or {}).get("module") == "probes.promises"
            if probe.get("tolerance_met") is False and not promised:
                message = f"the steady state was not met after the method: {activity.get('name')}"
                self.session.timeline.append("error", "harness", where="steady state", message=message)

    def _verdict_of(self, promise: str) -> str:
        if not any(event.kind == "load.end" for event in read_timeline(self.session.folder / "timeline.jsonl")):
            return NOT_JUDGED_YET
        verdicts = {verdict.promise: verdict for verdict in judge(self.session.folder, self.contract, running=True)}
        return verdicts[promise].verdict if promise in verdicts else NOT_JUDGED_YET

    def _clean_up(self) -> None:
        """Stop the load, heal whatever is left, let the lakehouse settle; each even if the one before failed."""
        session = self.session
        for load in session.loads.values():
            load.end()
        for engine, load in session.loads.items():
            self._attempt(f"stopping the load of {engine}", partial(load.stop, _LOAD_STOP_DEADLINE_S))
        for undo in self._own_faults():
            self.progress.note(f"healing {undo.fault} in {', '.join(undo.zones)}")
            self._attempt("healing", partial(heal_in, session, undo.fault, undo.zones))
        if self.refused:
            return
        self.progress.phase("settle")
        self._attempt("settling", lambda: leave_settling(session, SETTLE_DEADLINE_S))

    def _own_faults(self) -> list[Undo]:
        return [undo for undo in outstanding(self.session.region) if undo.run_folder == str(self.session.folder)]

    def _attempt(self, what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - nothing may keep the next clean-up from being tried
            self._error(what, error)

    def _error(self, where: str, error: Exception) -> None:
        # a full disk must not keep the clean-up from going on; the verdicts will lack their evidence
        with suppress(OSError):
            self.session.timeline.append("error", "harness", where=where, message=str(error) or repr(error))
        self.progress.note(f"{where}: {error}")

    def _conclude(self) -> tuple[list[Verdict], ExitCode]:
        folder = self.session.folder
        timeline = Timeline(folder / "timeline.jsonl")
        timeline.append("run.end", "harness")
        timeline.close()
        verdicts = judge(folder, self.contract)
        write_verdicts(folder, verdicts)
        write_junit({folder: verdicts}, folder / "junit.xml")
        write_report([folder], {folder: verdicts}, folder / "report.html", self.contract)
        code = exit_code(verdicts)
        return verdicts, ExitCode.HARNESS_ERROR if self.interrupted and code == ExitCode.HELD else code


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """Let nobody interrupt the healing; a second Ctrl-C would leave zones dead."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def open_folder(
    base: Path,
    experiment: Experiment,
    region: str,
    declared: dict[str, Any],
    zones: tuple[str, ...],
    images: dict[str, list[str]],
    contract: Path,
) -> Path:
    """Make the run folder with its `meta.json`; raises UsageError where it cannot be written.

    `images` are the references of the images that each Deployment of the lakehouse runs; `contract` is the file that
    the run is judged by, which is written down with a key of its bytes.
    """
    wall, mono = now()
    stamp = datetime.fromtimestamp(wall, UTC).strftime("%Y%m%dT%H%M%S")
    folder = base / f"{stamp}-{experiment.name}"
    cores, memory = host_size()
    meta = {
        "run_id": folder.name,
        "experiment": experiment.name,
        "title": experiment.title,
        "disaster": experiment.disaster,
        "variant": experiment.variant,
        "promises": experiment.promises,
        "region": region,
        "zones": list(zones),
        "engines": experiment.engines,
        "started_wall": wall,
        "started_mono": mono,
        "declared": {**declared, "provider.node-removal-delay-s": NODE_REMOVAL_DELAY_S},
        "images": images,
        "contract": f"{contract} ({key_of(contract.read_bytes())})",
        "host": {"cores": cores, "memory_bytes": memory},
        "version": importlib.metadata.version("lakehouse-chaos"),
    }
    try:
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps(meta, indent=2))
    except OSError as error:
        raise UsageError(f"the run folder {folder} cannot be written: {error.strerror}") from error
    return folder
