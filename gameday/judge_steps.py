"""Checkers of who acted."""

from __future__ import annotations

from gameday.errors import Inconclusive
from gameday.judge_case import Case, Finding, seconds, sentence
from gameday.judge_impact import recovered_at
from gameday.judge_writes import writes_evidence


def no_customer_step(case: Case) -> Finding:
    """Hold the promise that the service recovers with no step of the customer.

    It must have recovered by the deadline after the first zone was usable again, and no runbook step from the fault to
    the end of the run may be a customer's. A load that ended before the deadline without a recovery leaves it open.
    """
    fault, recovery = case.fault, case.contract.recovery
    steps = [step for step in case.run.of_kind("runbook.step.begin") if step.mono >= fault.injecting]
    customer = [str(step.get("step")) for step in steps if step.actor == "customer"]
    healing, deadline = case.fault_end, case.recovery_deadline
    case.check_load(fault.injecting, case.observed_end)
    case.check_in_time(fault.injecting, case.observed_end)
    back = {engine: recovered_at(case, engine) for engine in case.engines}
    down = [engine for engine, moment in back.items() if moment is None]
    if down and not customer and case.observed_end < deadline:
        raise Inconclusive(f"the load ended before {down[0]} had recovered, and before the deadline")
    complaints = [f"{engine} did not recover within {seconds(recovery.deadline_s)}" for engine in down]
    if customer:
        complaints.append(f"the customer had to act: {', '.join(customer)}")
    starved = case.open_if_starved(healing, case.observed_end, "; ".join(complaints)) if down and not customer else ""
    acts = [f"{event.get('act')} {event.get('node', '')}".strip() for event in case.run.of_kind("provider.act")]
    sre = [str(step.get("step")) for step in steps if step.actor == "sre"]
    return Finding(
        held=not complaints,
        figure=f"steps of the customer: {len(customer)}; of SRE: {len(sre)}; acts of the provider: {len(acts)}",
        bound=f"no customer step, and success sustained within {seconds(recovery.deadline_s)} after a zone is usable",
        reason=sentence("; ".join(complaints) or "the service recovered with no step of the customer"),
        evidence={
            "customer_steps": customer,
            "sre_steps": sre,
            "provider_acts": acts,
            "recovered_after_healing_s": {
                engine: None if moment is None else round(moment - healing, 3) for engine, moment in back.items()
            },
            "rto": case.outage_evidence(),
            "rpo": writes_evidence(case),
        },
        open=starved,
    )
