"""The faults as experiments name them: `inject`, `in_effect` and `heal`, for any fault of the registry.

Every act is on the timeline, the undo is on disk before anything is broken, and a fault whose effect could not be
proved is written down as that, for the judge.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from faults.kinds import Fault
from faults.undo import Undo, forget, outstanding, remember
from faults.zone_drain import ZoneDrain
from faults.zone_power import ZonePowerLoss
from gameday.errors import DeadlinePassed, HarnessError, Inconclusive, UsageError
from gameday.regions import check_opt_in
from gameday.session import Session, current, event_fields

FAULTS: dict[str, Fault] = {fault.name: fault for fault in (ZonePowerLoss(), ZoneDrain())}
_IN_EFFECT_DEADLINE_S = 15.0


def fault_named(name: str) -> Fault:
    """Return a fault; raises UsageError for an unknown name."""
    if name not in FAULTS:
        raise UsageError(f"unknown fault {name!r}: the faults are {', '.join(sorted(FAULTS))}")
    return FAULTS[name]


def inject(fault: str, zones: list[str]) -> str:
    """Inject a fault into zones and return its id.

    Raises Refused on a cluster that did not opt in and Inconclusive where the fault is not available, both with nothing
    touched; HarnessError where it could not be injected.
    """
    session, kind = current(), fault_named(fault)
    check_opt_in(session.api, session.region.name)
    reason = kind.available(session, zones)
    if reason:
        raise Inconclusive(f"the fault {fault} is not available in {', '.join(zones)}: {reason}")
    fields = event_fields(zones, session.machines(zones))
    fault_id = uuid.uuid4().hex[:12]
    remember(session.region, Undo(fault, fault_id, fields["zones"], fields["nodes"], str(session.folder), time.time()))
    session.timeline.append("fault.injecting", "fault", fault=fault, fault_id=fault_id, **fields)
    kind.inject(session, zones)
    session.timeline.append("fault.injected", "fault", fault=fault, fault_id=fault_id, **fields)
    return fault_id


def in_effect(fault: str, zones: list[str]) -> bool:
    """Prove that a fault is in effect, and write the proof, or what was seen instead, on the timeline."""
    session, kind = current(), fault_named(fault)
    fields = {
        "fault": fault,
        "fault_id": _fault_id(session, fault, zones),
        **event_fields(zones, session.machines(zones)),
    }

    def look() -> str | None:
        proof = kind.in_effect(session, zones)
        if proof is None:
            return "not in effect"
        session.timeline.append("fault.in_effect", "fault", **fields, proof=proof)
        return None

    try:
        session.wait(f"the proof that {fault} is in effect in {', '.join(zones)}", look, _IN_EFFECT_DEADLINE_S)
    except DeadlinePassed as error:
        session.timeline.append("fault.not_in_effect", "fault", **fields, seen=error.seen)
        return False
    return True


def heal(fault: str, zones: list[str]) -> None:
    """Heal a fault in zones, all of its own or a part; what is not broken is left alone. Raises DeadlinePassed."""
    heal_in(current(), fault, zones)


def heal_in(session: Session, fault: str, zones: list[str]) -> None:
    """Heal a fault in zones of a session; the undo record goes when none of its zones is left to heal."""
    kind = fault_named(fault)
    concerned = [undo for undo in outstanding(session.region) if undo.fault == fault and set(undo.zones) & set(zones)]
    if not concerned:
        return
    for undo in concerned:
        part = [zone for zone in undo.zones if zone in zones]
        fields = {"fault": fault, "fault_id": undo.fault_id, **event_fields(part, session.machines(part))}
        # evidence that cannot be written must not keep a zone dead; it is said when the zone is back
        with _deferred(OSError) as unwritten:
            _prove_again(session, kind, undo)
            session.timeline.append("fault.healing", "fault", **fields)
        kind.heal(session, part)
        with _deferred(OSError) as unwritten_after:
            session.timeline.append("fault.healed", "fault", **fields)
        left = [zone for zone in undo.zones if zone not in part]
        if left:
            nodes = [machine.name for machine in session.machines(left)]
            remember(session.region, Undo(fault, undo.fault_id, left, nodes, undo.run_folder, undo.wall))
        else:
            forget(session.region, undo.fault_id)
        for error in [*unwritten, *unwritten_after]:
            raise HarnessError(f"{', '.join(part)} healed, but that could not be written down: {error}") from error


def _prove_again(session: Session, kind: Fault, undo: Undo) -> None:
    """Write down whether the fault was still in effect at its end: somebody may have mended it in the meantime."""
    fields = {"fault": undo.fault, "fault_id": undo.fault_id, "zones": undo.zones, "nodes": undo.nodes}
    try:
        proof = kind.in_effect(session, undo.zones)
    except (ApiException, HTTPError) as error:
        seen = error.reason if isinstance(error, ApiException) else error
        session.timeline.append("fault.lapsed", "fault", **fields, seen=f"no proof: {seen}")
        return
    if proof:
        session.timeline.append("fault.still_in_effect", "fault", **fields, proof=proof)
    else:
        session.timeline.append("fault.lapsed", "fault", **fields, seen="not in effect any more")


@contextmanager
def _deferred(*kinds: type[Exception]) -> Iterator[list[Exception]]:
    """Collect errors of these kinds, for what has to go on in spite of them."""
    found: list[Exception] = []
    try:
        yield found
    except kinds as error:
        found.append(error)


def _fault_id(session: Session, fault: str, zones: list[str]) -> str:
    for undo in outstanding(session.region):
        if undo.fault == fault and set(undo.zones) == set(zones):
            return undo.fault_id
    return "none"
