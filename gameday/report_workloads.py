"""The workloads of an engine, told for the report: what each was, and how and when it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gameday.judge_workloads import was_in_flight
from gameday.records import Workload
from gameday.timeline import Event

# What ended in peace, or was at work when the load ended, and how many of those are shown.
_QUIET, _QUIET_MAX = ("succeeded", "unfinished"), 10


@dataclass(frozen=True, slots=True)
class WorkloadRow:
    """One row of the table of workloads; times are seconds relative to the fault, `taken_s` None if never accepted.

    `where` is the replica that had it, as far as the engine says so.
    """

    name: str
    kind: str
    in_flight: bool
    where: str
    taken_s: float | None
    state: str
    last_s: float
    error: str


def workload_rows(
    workloads: Sequence[Workload], events: Sequence[Event], origin: float, in_flight_min_s: float
) -> list[WorkloadRow]:
    """Return a row for each workload; in flight at the fault is said of those that the judge counts as that."""
    fault = next((event.mono for event in events if event.kind == "fault.injecting"), None)
    return [_row(one, fault, origin, in_flight_min_s) for one in workloads]


def told(rows: Sequence[WorkloadRow]) -> tuple[list[WorkloadRow], int]:
    """Return the rows to show, and how many are left out: where many were neither in flight nor failed, those."""
    quiet = [row for row in rows if not row.in_flight and row.state in _QUIET]
    if len(quiet) <= _QUIET_MAX:
        return list(rows), 0
    return [row for row in rows if row.in_flight or row.state not in _QUIET], len(quiet)


def _row(workload: Workload, fault_mono: float | None, origin: float, in_flight_min_s: float) -> WorkloadRow:
    taken, last = workload.at("accepted", "running"), workload.last
    code = "" if last.error_code is None else f" ({last.error_code})"
    return WorkloadRow(
        name=workload.name,
        kind=workload.kind.replace("_", " "),
        in_flight=fault_mono is not None and was_in_flight(workload, fault_mono, in_flight_min_s),
        where=str(workload.detail("replica") or ""),
        taken_s=None if taken is None else taken - origin,
        state=last.state,
        last_s=last.mono - origin,
        error=f"{last.error or ''}{code}".strip(),
    )
