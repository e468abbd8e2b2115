"""What the clients saw, as they write it and as the judge reads it: requests, workloads, and the ledger of writes.

One request is one operation of a client with all its standard retries. Times are seconds of the machine's monotonic
clock (see `gameday.timeline`); `wall` is the wall clock at `started`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from gameday.timeline import JsonLines, Tails, read_json_lines

Outcome = Literal["ok", "error", "dropped", "unfinished"]
LedgerState = Literal["attempted", "acknowledged", "unknown", "rejected"]
WorkloadState = Literal["submitted", "accepted", "running", "succeeded", "failed", "unfinished"]
ENDED: tuple[WorkloadState, ...] = ("succeeded", "failed", "unfinished")


@dataclass(frozen=True, slots=True)
class Request:
    """One operation of a client.

    intended    when the arrival schedule wanted it to start; latency counts from here, or a stall would hide itself
    started     when the first attempt was really sent
    ended       when the last attempt was answered, failed or was given up
    outcome     ok; error (after all standard retries); dropped (no room to send it, counts as an error);
                unfinished (still in flight when the load was stopped, counts as neither)
    attempts    number of attempts; attempt_errors holds one short text for each that failed, also where a retry helped
    replica     the pod that gave the last answer, as it named itself; None where nothing answered
    """

    engine: str
    operation: str
    intended: float
    started: float
    ended: float
    wall: float
    outcome: Outcome
    attempts: int = 1
    status: int | None = None
    error: str | None = None
    replica: str | None = None
    attempt_errors: list[str] = field(default_factory=list)

    @property
    def latency_s(self) -> float:
        """Seconds from the intended start to the end."""
        return self.ended - self.intended


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One step in the life of a write: it was attempted, then acknowledged, rejected, or its fate is unknown.

    item    identifier of the write (for MDS: the snapshot id, as text); place: where to find it (for MDS: the table)
    mono    when the step was known to the client
    """

    engine: str
    place: str
    item: str
    state: LedgerState
    mono: float
    wall: float


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What was found in one place when the ledger was read back after the recovery; `items` are identifiers as text.

    error is set, and items empty, where the place could not be read.
    """

    engine: str
    place: str
    items: list[str]
    mono: float
    wall: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class WorkloadStep:
    """One step in the life of a workload: a piece of work that lasts, such as a long query or a Spark job.

    workload    the client's name for it, unique in the run; for a Spark job also the label of its pods
    kind        what it is: long_query (of Presto), long_search (of Milvus), job, reference (of Spark: the
                same job, undisturbed)
    state       submitted; accepted (the engine has taken it); running (work on it was seen being done; written again
                whenever its progress is looked at); succeeded; failed (by the engine's own word, or because it is
                gone); unfinished (in flight when the load was stopped)
    engine_id   the engine's own name for it, once it has one
    error       the engine's own words for why it failed; error_code its own number, where it has any
    result      what it returned, as text that is equal if and only if the results are
    details     numbers of the engine: completed_tasks, failed_tasks, parameters (text: equal for equal work) …
    """

    engine: str
    workload: str
    kind: str
    state: WorkloadState
    mono: float
    wall: float
    engine_id: str | None = None
    error: str | None = None
    error_code: int | None = None
    result: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload as all its steps tell it; `steps` are ordered by time and not empty."""

    steps: tuple[WorkloadStep, ...]

    @property
    def name(self) -> str:
        """The client's name for it."""
        return self.steps[0].workload

    @property
    def engine(self) -> str:
        """The engine it is work for."""
        return self.steps[0].engine

    @property
    def kind(self) -> str:
        """What it is."""
        return self.steps[0].kind

    @property
    def last(self) -> WorkloadStep:
        """The latest step: how it ended, if it did."""
        return self.steps[-1]

    def at(self, *states: WorkloadState) -> float | None:
        """Return when it first was in one of these states (monotonic seconds), None if it never was."""
        return next((step.mono for step in self.steps if step.state in states), None)

    def in_flight_at(self, moment: float) -> bool:
        """Tell whether the engine had taken it before a moment and had not finished it by then."""
        taken, ended = self.at("accepted", "running"), self.at(*ENDED)
        return taken is not None and taken < moment and (ended is None or ended > moment)

    def detail(self, name: str) -> Any:  # noqa: ANN401 - JSON values
        """Return the latest value of a number of the engine, None where no step has it."""
        return next((step.details[name] for step in reversed(self.steps) if name in step.details), None)


class Recorder:
    """Appends requests, ledger entries and workloads of one process to files of its own in the run folder."""

    def __init__(self, folder: Path, process: str) -> None:
        """Open `requests-`, `ledger-` and `workloads-PROCESS.jsonl` in `folder`; raises OSError where that fails."""
        self._requests = JsonLines(folder / f"requests-{process}.jsonl")
        self._ledger = JsonLines(folder / f"ledger-{process}.jsonl")
        self._workloads = JsonLines(folder / f"workloads-{process}.jsonl")

    def request(self, request: Request) -> None:
        """Write down one finished operation."""
        self._requests.append(asdict(request))

    def ledger(self, entry: LedgerEntry) -> None:
        """Write down one step of a write."""
        self._ledger.append(asdict(entry))

    def workload(self, step: WorkloadStep) -> None:
        """Write down one step of a workload."""
        self._workloads.append(asdict(step))

    def close(self) -> None:
        """Close all files."""
        self._requests.close()
        self._ledger.close()
        self._workloads.close()


def write_read_back(folder: Path, found: Iterable[ReadBack]) -> None:
    """Append what was read back to `readback.jsonl` in the run folder."""
    lines = JsonLines(folder / "readback.jsonl")
    for item in found:
        lines.append(asdict(item))
    lines.close()


def _read(folder: Path, pattern: str) -> list[dict[str, Any]]:
    return [line for path in sorted(folder.glob(pattern)) for line in read_json_lines(path)]


def read_requests(folder: Path) -> list[Request]:
    """Return all requests of all processes of a run, ordered by their intended start."""
    return sorted((Request(**line) for line in _read(folder, "requests-*.jsonl")), key=lambda item: item.intended)


class RecentRequests:
    """Follows the requests of a run while it goes on, and keeps no more of them than were asked for last."""

    def __init__(self, folder: Path) -> None:
        self._tails = Tails(folder, "requests-*.jsonl")
        self._kept: list[Request] = []

    def ended_since(self, mono: float) -> list[Request]:
        """Return those that ended at a moment or later; each call must name one that is no earlier than the last."""
        self._kept += [Request(**line) for line in self._tails.read()]
        self._kept = [request for request in self._kept if request.ended >= mono]
        return self._kept


def read_ledger(folder: Path) -> list[LedgerEntry]:
    """Return all ledger entries of a run, ordered by time."""
    return sorted((LedgerEntry(**line) for line in _read(folder, "ledger-*.jsonl")), key=lambda item: item.mono)


def read_workloads(folder: Path) -> list[Workload]:
    """Return all workloads of a run, ordered by when they were submitted."""
    steps: dict[tuple[str, str], list[WorkloadStep]] = {}
    for line in sorted(_read(folder, "workloads-*.jsonl"), key=lambda line: line["mono"]):
        step = WorkloadStep(**line)
        steps.setdefault((step.engine, step.workload), []).append(step)
    return [Workload(tuple(own)) for own in steps.values()]


def read_read_back(folder: Path) -> list[ReadBack]:
    """Return what was read back, ordered by time."""
    return sorted((ReadBack(**line) for line in _read(folder, "readback.jsonl")), key=lambda item: item.mono)


def missing_writes(ledger: Iterable[LedgerEntry], found: Iterable[ReadBack]) -> list[str]:
    """Return the writes that were acknowledged and not found again, as place/item."""
    there = {(one.place, item) for one in found for item in one.items}
    acknowledged = {(entry.place, entry.item) for entry in ledger if entry.state == "acknowledged"}
    return sorted("/".join(one) for one in acknowledged - there)
