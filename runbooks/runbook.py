"""A runbook: the steps by which an operator or a customer mends what is broken, each written down as it is done.

Who performs a recovery step is promised, so every step has its actor, and is on the timeline with its beginning and its
end. What a step would act on can be looked at without doing anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gameday.engine import Engine
from gameday.errors import UsageError
from gameday.regions import Region
from gameday.timeline import Timeline


@dataclass
class Situation:
    """What the steps of one runbook work on, and what they tell each other.

    `values` are the parameters by name, all that the runbook has; `found` is for what a step found and a later one
    needs; `say` is told what is being done.
    """

    region: Region
    engine: Engine
    values: Mapping[str, str]
    say: Callable[[str], None]
    found: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One step: what is done, by whom.

    `look` says, without touching anything, what the step would act on; it raises UsageError where the runbook cannot
    be carried out. `act` does it, waits until it is done, and returns what was seen; it raises HarnessError where it
    failed.
    """

    name: str
    actor: Literal["sre", "customer"]
    text: str
    act: Callable[[Situation], str]
    look: Callable[[Situation], str] | None = None


@dataclass(frozen=True)
class Parameter:
    """What may be said to a runbook; without a `default` it has to be."""

    name: str
    text: str
    default: str | None = None


@dataclass(frozen=True)
class Runbook:
    """Steps that belong together. `when` says what has happened when they are to be taken."""

    name: str
    title: str
    when: str
    steps: Sequence[Step]
    parameters: Sequence[Parameter] = ()

    def filled(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the value of each parameter; raises UsageError for one that is unknown, or that is missing."""
        known = {parameter.name for parameter in self.parameters}
        if unknown := sorted(set(given) - known):
            has = ", ".join(sorted(known)) or "none"
            raise UsageError(f"runbook {self.name} has no parameter {', '.join(unknown)}; it has {has}")
        values = {one.name: given.get(one.name, one.default) for one in self.parameters}
        if missing := sorted(name for name, value in values.items() if value is None):
            raise UsageError(f"runbook {self.name} needs {', '.join(missing)}: give it as `--set {missing[0]}=VALUE`")
        return {name: str(value) for name, value in values.items()}


def looked_at(runbook: Runbook, situation: Situation) -> list[tuple[Step, str]]:
    """Return each step with what it would act on; nothing is touched. Raises UsageError where it cannot be done."""
    return [(step, step.look(situation) if step.look else "") for step in runbook.steps]


def carry_out(runbook: Runbook, situation: Situation, timeline: Timeline) -> float:
    """Look first, then take all steps in order, and return how many seconds they took.

    Raises what a step raises, after its end was written down as failed; later steps are not taken.
    """
    looked_at(runbook, situation)
    begun = time.monotonic()
    for step in runbook.steps:
        _take(runbook, step, situation, timeline)
    return time.monotonic() - begun


def _take(runbook: Runbook, step: Step, situation: Situation, timeline: Timeline) -> None:
    fields = {"runbook": runbook.name, "step": step.name}
    situation.say(f"{step.actor} · {step.name}: {step.text}")
    timeline.append("runbook.step.begin", step.actor, **fields)
    begun = time.monotonic()
    outcome, seen = "failed", ""
    try:
        seen = step.act(situation)
        outcome = "ok"
    except BaseException as error:
        seen = f"{type(error).__name__}: {error}"
        raise
    finally:
        took_s = round(time.monotonic() - begun, 3)
        timeline.append("runbook.step.end", step.actor, **fields, outcome=outcome, took_s=took_s, seen=seen)
    situation.say(f"{step.actor} · {step.name}: done in {took_s:.0f} s{f' ({seen})' if seen else ''}")
