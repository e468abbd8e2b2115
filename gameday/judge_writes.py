"""Acknowledged writes against what was read back after the recovery: what is lost, and how far back (RPO)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gameday.errors import Inconclusive
from gameday.judge_case import Case
from gameday.records import ReadBack

_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class WritesRead:
    """What became of the writes of an engine; `lost` holds item and the moment it was acknowledged (monotonic seconds).

    unexpected   items that are there although no client attempted them, or the service rejected them
    unread       a place that holds acknowledged writes and could not be read, and why; None if there is none
    rpo_s        seconds from the oldest lost acknowledgement to the fault; 0 where nothing older than the fault is lost
    """

    acknowledged: int
    lost: list[tuple[str, float]]
    unexpected: list[str]
    unread: str | None
    rpo_s: float

    def evidence(self, fault_mono: float) -> dict[str, Any]:
        """Return the numbers, with times relative to the fault."""
        dated = [{"item": item, "acknowledged_at_s": round(mono - fault_mono, 3)} for item, mono in self.lost]
        return {
            "acknowledged": self.acknowledged, "lost": len(self.lost), "lost_items": dated[:_SHOWN_MAX],
            "unexpected": len(self.unexpected), "unexpected_items": self.unexpected[:_SHOWN_MAX],
            "unread": self.unread, "rpo_s": round(self.rpo_s, 3),
        }  # fmt: skip


def read_writes(case: Case, engine: str) -> WritesRead:
    """Compare the ledger of an engine with what was found; raises Inconclusive where either is missing.

    Only what was read after the fault began to be healed (after the load, where it was not) counts, and of each place
    what was read last.
    """
    ledger = [entry for entry in case.run.ledger if entry.engine == engine]
    acknowledged = {(entry.place, entry.item): entry.mono for entry in ledger if entry.state == "acknowledged"}
    if not acknowledged:
        raise Inconclusive(f"no write of {engine} was acknowledged, so that none could be lost")
    found: dict[str, ReadBack] = {
        entry.place: entry for entry in case.run.read_back if entry.engine == engine and entry.mono > case.fault_end
    }
    if not found:
        raise Inconclusive(f"the writes of {engine} were not read back after the fault")
    unread = [place for place, _ in acknowledged if place not in found or found[place].error]
    lost = [
        (f"{place}/{item}", mono)
        for (place, item), mono in acknowledged.items()
        if place in found and not found[place].error and item not in found[place].items
    ]
    attempted = {(entry.place, entry.item) for entry in ledger}
    rejected = {(entry.place, entry.item) for entry in ledger if entry.state == "rejected"}
    there = {(place, item) for place, entry in found.items() for item in entry.items}
    unexpected = sorted(f"{place}/{item}" for place, item in (there - attempted) | (there & rejected))
    oldest = min((mono for _, mono in lost), default=case.fault.injecting)
    return WritesRead(
        acknowledged=len(acknowledged),
        lost=sorted(lost, key=lambda pair: pair[1]),
        unexpected=unexpected,
        unread=None if not unread else _why_unread(unread[0], found),
        rpo_s=max(0.0, case.fault.injecting - oldest),
    )


def writes_evidence(case: Case) -> dict[str, Any]:
    """Return what became of the writes of each engine, or why that is not known."""
    evidence: dict[str, Any] = {}
    for engine in case.engines:
        try:
            evidence[engine] = read_writes(case, engine).evidence(case.fault.injecting)
        except Inconclusive as error:
            evidence[engine] = {"rpo_s": None, "why": str(error)}
    return evidence


def _why_unread(place: str, found: dict[str, ReadBack]) -> str:
    return f"{place}: {found[place].error if place in found else 'not read back'}"
