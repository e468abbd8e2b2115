"""The steps of a run as experiments name them: load, baseline, observation, recovery, read-back.

The faults have actions of their own (`faults.actions`), and what is seen has probes (`probes`).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gameday.contract import load_contract
from gameday.disturbance import disturbance
from gameday.errors import HarnessError
from gameday.measure import latency_s, waiting_s
from gameday.reading import RunFolder
from gameday.records import (
    ENDED,
    LedgerEntry,
    ReadBack,
    RecentRequests,
    Recorder,
    Workload,
    WorkloadStep,
    read_ledger,
    read_workloads,
    write_read_back,
)
from gameday.session import Session, current
from gameday.settle import SETTLE_DEADLINE_S, await_ready, leave_settling
from gameday.timeline import JsonLines, now, read_json_lines, read_timeline
from gameday.watcher import capacity
from lakehouse.deploy import images_in_use, not_serving
from lakehouse.formations import FORMATIONS
from lakehouse.spark_formation import SUBMISSION
from loadgen.process import Load
from loadgen.readback import read_back_mds, read_back_presto
from loadgen.schedule import ARRIVALS_PER_S, declared_rates
from loadgen.spark_reference import run_reference
from nodeimage.cache import key_of


def _read_back_milvus(base_url: str, ledger: Sequence[LedgerEntry], *, deadline_s: float) -> list[ReadBack]:
    # a second of work, which runs without Milvus need not do
    from loadgen.milvus_readback import drop_collections, read_back_milvus  # noqa: PLC0415

    found = read_back_milvus(base_url, ledger, deadline_s=deadline_s)
    # each change of metadata reads all of it, so that what earlier runs left would slow later ones down
    drop_collections(base_url, ledger, found)
    return found


# what Chaos Toolkit writes to, the terminal among it
logger = logging.getLogger("chaostoolkit")

_READ_BACK: dict[str, Callable[..., list[ReadBack]]] = {
    "mds": read_back_mds,
    "milvus": _read_back_milvus,
    "presto": read_back_presto,
}
# What is ready may be known to all a little later.
_SERVING_DEADLINE_S = 120.0
# Spark's load is ready when its jobs run, three Java processes each, and Presto's when it is warm. The load itself
# gives up at half of this, as it can say what it lacked.
_LOAD_READY_DEADLINE_S = {"mds": 60.0, "milvus": 120.0, "presto": 240.0, "spark": 240.0}
_LOAD_STOP_DEADLINE_S = 20.0
_READ_BACK_DEADLINE_S = 60.0
_REFERENCE_DEADLINE_S = 120.0
# How long success must last while we wait for a recovery: a little longer than the judge's own 10 s, so that it finds
# those within what was recorded.
_SUSTAINED_S = 12.0
# Loads begin one after the other, and each costs the others something. What is still slow after this long is no
# baseline, which the judge says; jobs would only end too soon if they waited longer.
_STEADY_S, _STEADY_DEADLINE_S = 6.0, 20.0


def begin_loads(engines: list[str], jobs: list[dict[str, Any]] | None = None, long_queries: int = 1) -> None:
    """Start the loads of several engines, each when its engine serves as a whole, and let all begin together.

    `jobs` are those that Spark's clients submit, as `loadgen.jobs` has them; that load begins when they run. Presto's
    clients keep so many `long_queries` in flight, and begin when these run. Until all are ready no arrival comes: what
    has to start, warm up and be made ready would take longer beside those.
    """
    session = current()
    unknown = [engine for engine in engines if engine not in ARRIVALS_PER_S]
    if unknown:
        raise HarnessError(f"there is no load for the engine {unknown[0]!r}: there are {', '.join(ARRIVALS_PER_S)}")
    begin = session.folder / "loads-begin"
    begin.unlink(missing_ok=True)
    waiting = list(engines)

    def look() -> str | None:
        lacking = {engine: _not_serving(session, engine) for engine in waiting}
        for engine in [engine for engine in waiting if lacking[engine] is None]:
            session.loads[engine] = _load(engine, begin, jobs, long_queries)
            session.loads[engine].start()
            waiting.remove(engine)
        return "; ".join(f"{engine}: {lacking[engine]}" for engine in waiting) or None

    session.wait("the engines to serve", look, _SERVING_DEADLINE_S)
    for engine in engines:
        session.awaiting(f"the load of {engine} to be ready", _LOAD_READY_DEADLINE_S[engine], "starting")
        session.loads[engine].wait_ready(_LOAD_READY_DEADLINE_S[engine])
    begin.touch()
    for engine in engines:
        session.timeline.append("load.begin", "harness", **_declared(engine))


def _not_serving(session: Session, engine: str) -> str | None:
    (formation,) = (one for one in FORMATIONS if one.name == engine)
    return not_serving(formation, session.endpoints[engine])


def _load(engine: str, begin: Path, jobs: list[dict[str, Any]] | None, long_queries: int) -> Load:
    session = current()
    options = ["--ready-deadline-s", str(_LOAD_READY_DEADLINE_S[engine] / 2), "--begin-file", str(begin)]
    options += ["--jobs", json.dumps(jobs)] if engine == "spark" and jobs else []
    options += ["--long-queries", str(long_queries)] if engine == "presto" else []
    return Load(
        engine, session.endpoints[engine], session.folder, arrivals_per_s=ARRIVALS_PER_S[engine], options=options
    )


def baseline(seconds: float) -> None:
    """Observe the undisturbed lakehouse under load for so many seconds, then note what the nodes have and hold.

    It begins when no request has failed or been slow for 6 s, and after 20 s whatever was seen. That the machine is too
    full to judge by what clients will suffer is said at once, as a game day takes long.
    """
    session = current()
    await_steady()
    _observe("baseline", seconds)
    session.timeline.append("capacity", "harness", **capacity(session))
    idle, least = RunFolder(session.folder).baseline_idle_cores, load_contract(session.contract).evidence.cores_idle_min
    if idle is not None and idle < least:
        logger.warning(
            "The machine is full: %.2f of a core is idle, less than %g. What clients will suffer says nothing then.",
            idle,
            least,
        )


def await_steady() -> bool:
    """Wait for 6 s without a failed or slow request of any engine; False after 20 s, a finding."""
    return _await_undisturbed(_STEADY_S, _STEADY_DEADLINE_S, {})


def observe(seconds: float, since_fault_s: float = 0.0) -> None:
    """Observe the lakehouse under load while the fault is in effect; the load must be alive all that time.

    For so many `seconds`, and longer where `since_fault_s` have not passed since the injection: what was waited for
    meanwhile is part of what is judged, and may take more or less.
    """
    injections = [
        event.mono for event in read_timeline(current().folder / "timeline.jsonl") if event.kind == "fault.injecting"
    ]
    passed_s = now()[1] - injections[-1] if injections else 0.0
    _observe("fault", max(seconds, since_fault_s - passed_s))


def await_recovery(deadline_s: float) -> bool:
    """Wait for 12 s without a failed or slow request of any engine; False after `deadline_s` seconds, a finding.

    And with latencies that are "no impact" by the baseline: a load that ended before would leave the recovery open.
    """
    session = current()
    session.timeline.append("phase.begin", "harness", phase="recovery")
    recovered = _await_undisturbed(_SUSTAINED_S, deadline_s, _latencies_allowed(session))
    session.timeline.append("phase.end", "harness", phase="recovery")
    return recovered


def _latencies_allowed(session: Session) -> dict[str, float]:
    """Return up to which 95th percentile an engine shows no impact, in seconds, of those that have a baseline."""
    run, impact = RunFolder(session.folder), load_contract(session.contract).impact
    if run.first("phase.end", phase="baseline") is None:
        return {}
    found = {engine: latency_s(run.baseline_of(engine), 0.95) for engine in session.loads}
    return {engine: impact.of(engine).latency_p95_s_max(p95) for engine, p95 in found.items() if p95 is not None}


def _await_undisturbed(sustained_s: float, deadline_s: float, p95_s_max: Mapping[str, float]) -> bool:
    """Wait until nothing was wrong with what all engines answered for so long; False after the deadline."""
    session = current()
    recovery, requests = load_contract(session.contract).recovery, RecentRequests(session.folder)
    intervals_s = {engine: 1 / ARRIVALS_PER_S[engine] for engine in session.loads}
    _, begun = now()

    def look() -> str | None:
        check_alive(session)
        _, moment = now()
        if moment - begun < sustained_s:
            return f"{moment - begun:.0f} of {sustained_s:.0f} s observed"
        recent = requests.ended_since(moment - sustained_s)
        waiting = {
            engine: waiting_s((one for one in recent if one.engine == engine), moment - sustained_s, moment, every_s)
            for engine, every_s in intervals_s.items()
        }
        wrong = disturbance(recent, session.loads, recovery, p95_s_max, waiting)
        return f"{wrong} in the last {sustained_s:.0f} s" if wrong else None

    return session.waited(f"{sustained_s:.0f} s without a failed or slow request", look, deadline_s)


def await_jobs(deadline_s: float) -> bool:
    """Wait until every Spark job of the load has ended; False after `deadline_s` seconds, a finding and no error."""
    session = current()

    def look() -> str | None:
        check_alive(session)
        jobs = _spark_jobs(session)
        running = [f"{job.name} ({job.detail('completed_tasks')} tasks done)" for job in jobs if not _has_ended(job)]
        return None if jobs and not running else ", ".join(running) or "no job was submitted"

    return session.waited("the jobs to end", look, deadline_s)


def stop_loads(session: Session) -> None:
    """Stop whatever load still runs, without reading anything back.

    Raises HarnessError where one failed, when all are stopped.
    """
    with ExitStack() as stopping:
        for load in session.loads.values():
            load.end()
            stopping.callback(load.stop, _LOAD_STOP_DEADLINE_S)


def end_loads(engines: list[str]) -> None:
    """End the loads of engines all at once, read their writes back, and write down both; then the run can be judged."""
    session = current()
    loads = check_alive(session)
    for engine in engines:
        loads[engine].end()
    for engine in engines:
        loads[engine].stop(_LOAD_STOP_DEADLINE_S)
        del session.loads[engine]
        session.timeline.append("load.end", "harness", **_declared(engine))
    ledger = read_ledger(session.folder)
    for engine in [engine for engine in engines if engine in _READ_BACK]:
        session.awaiting(f"the ledger of {engine} to be read back", _READ_BACK_DEADLINE_S, "reading")
        own = [entry for entry in ledger if entry.engine == engine]
        found = _READ_BACK[engine](session.endpoints[engine], own, deadline_s=_READ_BACK_DEADLINE_S)
        write_read_back(session.folder, found)


def run_references() -> None:
    """Have the work of Spark's jobs done once more, undisturbed, so that their results can be compared.

    It is done once for a lakehouse and kept beside its kubeconfig, under a key of the work and of the image that did
    it. That of a job which failed is done anew: its user runs it again. Meanwhile what was moved begins to settle,
    as no load runs any more; raises DeadlinePassed where a formation is not whole before or after.
    """
    session = current()
    leave_settling(session, SETTLE_DEADLINE_S)
    jobs = [job for job in _spark_jobs(session) if job.detail("parameters")]
    wanted = {str(job.detail("parameters")) for job in jobs}
    failed = {str(job.detail("parameters")) for job in jobs if job.last.state == "failed"}
    recorder = Recorder(session.folder, "reference")
    try:
        for parameters in sorted(wanted):
            for step in _reference(session, parameters, anew=parameters in failed):
                recorder.workload(step)
    finally:
        recorder.close()
    await_ready(session, SETTLE_DEADLINE_S)


def _reference(session: Session, parameters: str, *, anew: bool) -> list[WorkloadStep]:
    images = images_in_use(session.api)[SUBMISSION]
    kept = session.region.folder / f"reference-{key_of(*images, parameters)}.jsonl"
    found = [WorkloadStep(**line) for line in read_json_lines(kept)]
    if found and found[-1].state == "succeeded" and not anew:
        return found
    session.awaiting("the undisturbed run of the jobs' work", _REFERENCE_DEADLINE_S, parameters)
    steps = run_reference(
        session.endpoints["spark"], json.loads(parameters), lambda _: None, deadline_s=_REFERENCE_DEADLINE_S
    )
    if steps[-1].state == "succeeded":
        kept.unlink(missing_ok=True)
        lines = JsonLines(kept)
        for step in steps:
            lines.append(asdict(step))
        lines.close()
    return steps


def _spark_jobs(session: Session) -> list[Workload]:
    return [workload for workload in read_workloads(session.folder) if workload.engine == "spark"]


def _has_ended(workload: Workload) -> bool:
    return workload.at(*ENDED) is not None


def _declared(engine: str) -> dict[str, object]:
    rate = ARRIVALS_PER_S[engine]
    return {"engine": engine, "arrivals_per_s": rate, "requests_per_s": sum(declared_rates(engine, rate).values())}


def check_alive(session: Session) -> dict[str, Load]:
    """Return the loads; raises HarnessError where one of them is dead, or there is none."""
    dead = [engine for engine, load in session.loads.items() if not load.alive()]
    if dead or not session.loads:
        which = f" of {dead[0]}" if dead else ""
        raise HarnessError(f"the load{which} is not running: see {session.folder}/load-*.log")
    return session.loads


def _observe(phase: str, seconds: float) -> None:
    session = current()
    session.timeline.append("phase.begin", "harness", phase=phase)
    end = time.monotonic() + seconds
    # an observation has a length and no condition; what may end it early is a load that dies
    while (left := end - time.monotonic()) > 0:
        check_alive(session)
        session.awaiting(f"{seconds:g} s of {phase}", seconds, f"{left:.0f} s to go")
        time.sleep(min(0.5, left))
    session.timeline.append("phase.end", "harness", phase=phase)
