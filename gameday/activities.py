"""The steps of a run as experiments name them: load, baseline, observation, recovery, read-back.

The faults have actions of their own (`faults.actions`), and what is seen has probes (`probes`).
"""

from __future__ import annotations

import time

from gameday.errors import HarnessError
from gameday.records import read_ledger, read_requests, write_read_back
from gameday.session import Session, current
from gameday.timeline import now
from gameday.watcher import capacity
from loadgen.process import Load
from loadgen.readback import read_back_mds
from loadgen.schedule import declared_rates

# Arrivals a second of each engine's load. Two replicas of MDS carry this and one does not, which is what
# S5.mds.two-zones turns on.
ARRIVALS_PER_S = {"mds": 5.0}
_LOAD_READY_DEADLINE_S = 60.0
_LOAD_STOP_DEADLINE_S = 20.0
_READ_BACK_DEADLINE_S = 60.0
# How long success must last while we wait for a recovery: a little longer than the judge's own 10 s, so that it finds
# those within what was recorded.
_SUSTAINED_S = 12.0
_SLOW_S = 1.0


def begin_load(engine: str) -> None:
    """Start the load of an engine in a process of its own and wait until its arrivals begin."""
    session = current()
    if engine not in ARRIVALS_PER_S:
        raise HarnessError(f"there is no load for the engine {engine!r}")
    load = Load(session.endpoints[engine], session.folder, arrivals_per_s=ARRIVALS_PER_S[engine])
    session.load = load
    session.awaiting(f"the load of {engine} to begin", _LOAD_READY_DEADLINE_S, "starting")
    load.start()
    load.wait_ready(_LOAD_READY_DEADLINE_S)
    session.timeline.append("load.begin", "harness", **_declared(engine))


def baseline(seconds: float) -> None:
    """Observe the undisturbed lakehouse under load for so many seconds, then note what the nodes have and hold."""
    _observe("baseline", seconds)
    session = current()
    session.timeline.append("capacity", "harness", **capacity(session))


def observe(seconds: float) -> None:
    """Observe the lakehouse under load while the fault is in effect; the load must be alive all that time."""
    _observe("fault", seconds)


def await_recovery(deadline_s: float) -> bool:
    """Wait for 12 s without a failed or slow request; False after `deadline_s` seconds, a finding and no error."""
    session = current()
    _, begun = now()
    session.timeline.append("phase.begin", "harness", phase="recovery")

    def look() -> str | None:
        _check_alive(session)
        _, moment = now()
        if moment - begun < _SUSTAINED_S:
            return f"{moment - begun:.0f} of {_SUSTAINED_S:.0f} s observed"
        recent = [request for request in read_requests(session.folder) if request.ended >= moment - _SUSTAINED_S]
        bad = sum(request.outcome != "ok" or request.latency_s > _SLOW_S for request in recent)
        return (
            None
            if recent and not bad
            else f"{bad} of {len(recent)} failed or were slow in the last {_SUSTAINED_S:.0f} s"
        )

    recovered = session.waited(f"{_SUSTAINED_S:.0f} s without a failed or slow request", look, deadline_s)
    session.timeline.append("phase.end", "harness", phase="recovery")
    return recovered


def end_load(engine: str) -> None:
    """Stop the load, read the ledger back, and write down both; after this the run can be judged."""
    session = current()
    load = _check_alive(session)
    load.stop(_LOAD_STOP_DEADLINE_S)
    session.load = None
    session.timeline.append("load.end", "harness", **_declared(engine))
    session.awaiting("the ledger to be read back", _READ_BACK_DEADLINE_S, "reading")
    ledger = [entry for entry in read_ledger(session.folder) if entry.engine == engine]
    write_read_back(session.folder, read_back_mds(session.endpoints[engine], ledger, deadline_s=_READ_BACK_DEADLINE_S))


def _declared(engine: str) -> dict[str, object]:
    rate = ARRIVALS_PER_S[engine]
    return {"engine": engine, "arrivals_per_s": rate, "requests_per_s": sum(declared_rates(rate).values())}


def _check_alive(session: Session) -> Load:
    if not isinstance(session.load, Load) or not session.load.alive():
        raise HarnessError(f"the load is not running: see {session.folder / 'load.log'}")
    return session.load


def _observe(phase: str, seconds: float) -> None:
    session = current()
    session.timeline.append("phase.begin", "harness", phase=phase)
    end = time.monotonic() + seconds
    # an observation has a length and no condition; what may end it early is a load that dies
    while (left := end - time.monotonic()) > 0:
        _check_alive(session)
        session.awaiting(f"{seconds:g} s of {phase}", seconds, f"{left:.0f} s to go")
        time.sleep(min(0.5, left))
    session.timeline.append("phase.end", "harness", phase=phase)
