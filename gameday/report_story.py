"""What happened in a run, told for the report: who acted when, which stretches to shade, which moments to mark.

All times are seconds relative to the fault (the first `fault.injected`), or to the first event where there was none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from gameday.timeline import Event

# the kinds that are told whenever they occur: a sentence in which $name is a field, and the fields that give detail
_TOLD = {
    "phase.begin": ("phase $phase", ()),
    "fault.injecting": ("$fault injecting", ("zones", "nodes")),
    "fault.injected": ("$fault injected", ("zones", "nodes")),
    "fault.in_effect": ("$fault proved to be in effect", ("zones", "nodes", "proof")),
    "fault.not_in_effect": ("$fault not in effect", ("zones", "nodes", "seen")),
    "fault.still_in_effect": ("$fault proved to have lasted", ("zones", "nodes", "proof")),
    "fault.lapsed": ("$fault did not last", ("zones", "nodes", "seen")),
    "fault.healing": ("$fault healing", ("zones", "nodes")),
    "fault.healed": ("$fault healed", ("zones", "nodes")),
    "provider.act": ("$act", ("node",)),
    "alert.firing": ("operators are told: $alert", ("summary",)),
    "alert.resolved": ("operators are told that it is over: $alert", ("summary",)),
    "runbook.step.begin": ("step begun: $step", ()),
    "runbook.step.end": ("step ended: $step", ("outcome", "seen")),
    "machine.unwatched": ("whose the machine's cores were is not known: $reason", ()),
    "watch.lost": ("watch lost: $what", ("error",)),
    "error": ("error in $where", ("message",)),
    "preflight.failed": ("preflight failed", ("message",)),
    "run.interrupted": ("run $status", ()),
    "run.end": ("run ended", ()),
}


@dataclass(frozen=True, slots=True)
class Deed:
    """One row of the table of who acted: `at_s` seconds after the fault, `actor` did `what`, with a `detail`."""

    at_s: float
    actor: str
    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A line in the plots at `at_s`, with its letter and what it means; `good` for what ends a fault or an outage."""

    letter: str
    at_s: float
    text: str
    good: bool


@dataclass(frozen=True, slots=True)
class Shade:
    """A stretch of the plots in which a zone was lost; `healed` says whether it ended within the run."""

    begin_s: float
    end_s: float
    text: str
    healed: bool


def origin_mono(events: Sequence[Event]) -> float:
    """Return the moment that times are relative to, in seconds of the monotonic clock; 0 for an empty timeline."""
    injected = (event.mono for event in events if event.kind == "fault.injected")
    return next(injected, events[0].mono if events else 0.0)


def shades(events: Sequence[Event], last_mono: float) -> list[Shade]:
    """Return one stretch for each zone of each fault, from its injection to its healing or else to `last_mono`."""
    origin = origin_mono(events)
    found = []
    for injected in (event for event in events if event.kind == "fault.injected"):
        for zone in injected.get("zones") or ["no zone named"]:
            healed = next((event for event in events if _heals(event, injected, zone)), None)
            end_mono = healed.mono if healed else max(last_mono, injected.mono)
            found.append(
                Shade(injected.mono - origin, end_mono - origin, f"{injected.get('fault')}: {zone}", healed is not None)
            )
    return found


def _heals(event: Event, injected: Event, zone: str) -> bool:
    return (
        event.kind == "fault.healed"
        and event.mono >= injected.mono
        and event.get("fault_id") == injected.get("fault_id")
        and zone in (event.get("zones") or [zone])
    )


def marks(events: Sequence[Event], recovered_monos: Sequence[float]) -> list[Mark]:
    """Return the moments to mark, lettered by time: in effect, healed, and each first sustained success."""
    origin = origin_mono(events)
    moments = [(mono, "the service is back: first sustained success", True) for mono in recovered_monos]
    for event in events:
        zones = _text(event.get("zones"))
        if event.kind == "fault.in_effect":
            moments.append((event.mono, f"{event.get('fault')} proved to be in effect {zones}".rstrip(), False))
        elif event.kind == "fault.healed":
            moments.append((event.mono, f"healed: {zones or event.get('fault')}", True))
    return [
        Mark(chr(ord("A") + number % 26), mono - origin, text, good)
        for number, (mono, text, good) in enumerate(sorted(moments))
    ]


def deeds(events: Sequence[Event]) -> list[Deed]:
    """Return who acted, in the order of time: faults, provider, runbook steps, Kubernetes by itself, and errors."""
    origin = origin_mono(events)
    ready_nodes: dict[str, bool] = {}
    ready_pods: set[str] = set()
    found = []
    for event in events:
        told = _tell_node(event, ready_nodes) or _tell_pod(event, ready_pods, origin) or _tell(event)
        if told:
            found.append(Deed(event.mono - origin, event.actor or "nobody", *told))
    return found


def _tell(event: Event) -> tuple[str, str] | None:
    """Return (what, detail) for the kinds of events that are always told, None for the others."""
    if event.kind not in _TOLD:
        return None
    sentence, details = _TOLD[event.kind]
    shown = [_text(event.get(name)) for name in details if event.get(name) not in (None, [], "")]
    return " ".join(_text(event.get(word[1:])) if word[0] == "$" else word for word in sentence.split()), "; ".join(
        shown
    )


def _tell_node(event: Event, ready: dict[str, bool]) -> tuple[str, str] | None:
    """Tell of a node that stopped or began to be Ready; `ready` holds what was last seen of each node."""
    if event.kind != "node":
        return None
    name = str(event.get("name"))
    before = ready.get(name)
    ready[name] = bool(event.get("ready")) and event.get("op") != "DELETED"
    if event.get("op") == "DELETED":
        return f"node {name} removed", _text(event.get("zone"))
    if before is None or before == ready[name]:
        return None
    return f"node {name} {'Ready' if ready[name] else 'NotReady'}", _text(event.get("zone"))


def _tell_pod(event: Event, ready: set[str], origin: float) -> tuple[str, str] | None:
    """Tell of a formation's pod that became Ready for the first time after the fault; `ready` holds the ones seen."""
    uid = str(event.get("uid"))
    if event.kind != "pod" or not event.get("formation") or not event.get("ready") or uid in ready:
        return None
    ready.add(uid)
    if event.mono < origin or event.get("op") == "SNAPSHOT":
        return None
    return f"pod {event.get('name')} Ready", _text(event.get("zone"))


def _text(value: object) -> str:
    """Return a field as a person reads it: lists with commas, objects as JSON."""
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if value is None else str(value)
