"""A run folder as it is read by the judge: whatever is missing in it raises Inconclusive and says what."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gameday.errors import Inconclusive
from gameday.measure import due_within, mean_cores
from gameday.records import (
    LedgerEntry,
    ReadBack,
    Request,
    Workload,
    read_ledger,
    read_read_back,
    read_requests,
    read_workloads,
)
from gameday.timeline import Event, read_timeline


@dataclass(frozen=True, slots=True)
class SeenFault:
    """The fault of a run; times are monotonic seconds, None for what did not happen.

    injecting   just before anything was done, from when on clients may be impacted (a drain takes a while)
    in_effect   when its effect on all `zones` was proved
    healing     when the first of its zones began to return; healed: when that zone was usable again
    """

    fault: str
    fault_id: str
    zones: tuple[str, ...]
    nodes: tuple[str, ...]
    injecting: float
    in_effect: float
    healing: float | None
    healed: float | None


class RunFolder:
    """Reads the files of one run folder, each when it is first asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def meta(self) -> dict[str, Any]:
        """The content of `meta.json`."""
        try:
            meta = json.loads((self.path / "meta.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Inconclusive(f"the meta.json of the run cannot be read: {error}") from error
        if not isinstance(meta, dict):
            raise Inconclusive("the meta.json of the run is no object")
        return meta

    @cached_property
    def events(self) -> list[Event]:
        """All events of the timeline, ordered by time."""
        return _present(read_timeline(self.path / "timeline.jsonl"), "timeline (timeline.jsonl)")

    @cached_property
    def requests(self) -> list[Request]:
        """All operations of all clients, ordered by their intended start."""
        return _present(read_requests(self.path), "recorded operation (requests-*.jsonl)")

    @cached_property
    def workloads(self) -> list[Workload]:
        """All workloads of all clients, ordered by when they were submitted; a run may rightly have none."""
        return read_workloads(self.path)

    @cached_property
    def ledger(self) -> list[LedgerEntry]:
        """All steps of all writes, ordered by time."""
        return _present(read_ledger(self.path), "ledger of writes (ledger-*.jsonl)")

    @cached_property
    def read_back(self) -> list[ReadBack]:
        """What was read back of the ledger, ordered by time."""
        return _present(read_read_back(self.path), "read-back of the ledger (readback.jsonl)")

    def of_kind(self, *kinds: str) -> list[Event]:
        """Return the events of these kinds, ordered by time."""
        return [event for event in self.events if event.kind in kinds]

    def first(self, kind: str, **fields: object) -> Event | None:
        """Return the first event of a kind whose fields have these values, or None."""
        found = (
            event for event in self.of_kind(kind) if all(event.get(name) == value for name, value in fields.items())
        )
        return next(found, None)

    def phase(self, name: str) -> tuple[float, float]:
        """Return begin and end of a phase; raises Inconclusive where it did not begin or did not end."""
        begin, end = self.first("phase.begin", phase=name), self.first("phase.end", phase=name)
        if begin is None or end is None:
            raise Inconclusive(f"the run has no complete {name}")
        return begin.mono, end.mono

    @property
    def baseline_idle_cores(self) -> float | None:
        """How many of the machine's cores were idle in the mean of the baseline; None where nobody looked.

        Raises Inconclusive where the run has no complete baseline.
        """
        begin, end = self.phase("baseline")
        seen = [one for one in self.of_kind("machine") if begin < one.mono and one.mono - one["seconds"] < end]
        return mean_cores(seen).get("idle")

    def baseline_of(self, engine: str) -> list[Request]:
        """Return the operations of an engine's clients that were due in the baseline and ended before the fault.

        Raises Inconclusive where the run has no complete baseline.
        """
        begin, end = self.phase("baseline")
        injecting = self.first("fault.injecting")
        return [
            request
            for request in due_within(self.requests, begin, end)
            if request.engine == engine and (injecting is None or request.ended <= injecting.mono)
        ]

    @cached_property
    def load_end(self) -> float:
        """When the last load had ended; raises Inconclusive where a load did not end in an orderly way."""
        begun = {event.get("engine") for event in self.of_kind("load.begin")}
        ended = {event.get("engine"): event.mono for event in self.of_kind("load.end")}
        if not begun or begun - set(ended):
            raise Inconclusive("the load did not run to its end, so that the run was cut short")
        return max(ended.values())

    @cached_property
    def fault(self) -> SeenFault:
        """The one fault of the run; raises Inconclusive where there was none, several, or where it was not proved."""
        injecting = self.of_kind("fault.injecting")
        if not injecting:
            raise Inconclusive("no fault was injected")
        if len({event["fault_id"] for event in injecting}) > 1:
            raise Inconclusive("several faults were injected, and what was seen cannot be told apart")
        begun = injecting[0]
        of_fault = [event for event in self.events if event.get("fault_id") == begun["fault_id"]]
        proofs = [
            event
            for event in of_fault
            if event.kind == "fault.in_effect" and set(event["zones"]) == set(begun["zones"])
        ]
        if not proofs or self.of_kind("fault.not_in_effect"):
            seen = next((event.get("seen") for event in self.of_kind("fault.not_in_effect")), None)
            raise Inconclusive(f"the fault was not proved to be in effect{f': {seen}' if seen else ''}")
        healing, healed = (
            next((event.mono for event in of_fault if event.kind == kind), None)
            for kind in ("fault.healing", "fault.healed")
        )
        if healing is not None and healing <= proofs[0].mono:
            raise Inconclusive("the fault was proved to be in effect only after it began to be healed")
        lasted = [event for event in of_fault if event.kind == "fault.still_in_effect"]
        if healing is not None and not (lasted and lasted[0].mono <= healing):
            seen = next((event.get("seen") for event in of_fault if event.kind == "fault.lapsed"), None)
            raise Inconclusive(
                f"the fault was not proved to have lasted until it was healed{f': {seen}' if seen else ''}"
            )
        return SeenFault(
            fault=begun["fault"], fault_id=begun["fault_id"], zones=tuple(begun["zones"]), nodes=tuple(begun["nodes"]),
            injecting=begun.mono, in_effect=proofs[0].mono, healing=healing, healed=healed,
        )  # fmt: skip

    def pods_at(self, moment: float) -> list[Event]:
        """Return the last known state of each pod that existed at a moment, as events of kind `pod`."""
        states: dict[str, Event] = {}
        for event in self.of_kind("pod"):
            if event.mono > moment:
                break
            states[event["uid"]] = event
        return [event for event in states.values() if event["op"] != "DELETED"]

    def check_watched(self, until: float) -> None:
        """Raise Inconclusive where what was seen of nodes and pods up to a moment may have holes."""
        for event in self.of_kind("watch.lost"):
            if event.mono <= until and event.get("what") != "events":
                raise Inconclusive(f"the watch of {event.get('what')} was lost, and what was seen may have holes")


def _present[T](found: list[T], what: str) -> list[T]:
    if not found:
        raise Inconclusive(f"the run has no {what}")
    return found
