"""Runbooks: steps in order, each on the timeline with who took it; a look touches nothing; a failure ends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gameday.engine import Engine
from gameday.errors import HarnessError, UsageError
from gameday.regions import Region
from gameday.timeline import Timeline, read_timeline
from runbooks.runbook import Parameter, Runbook, Situation, Step, carry_out, looked_at

pytestmark = pytest.mark.needs("backup")


class Bench:
    """A runbook of three steps that write down what was done to them."""

    def __init__(self, folder: Path, *, breaks: str = "") -> None:
        self.done: list[str] = []
        self.said: list[str] = []
        self.breaks = breaks
        self.timeline = Timeline(folder / "timeline.jsonl")
        self.runbook = Runbook(
            "mend",
            "Mend it",
            "It is broken.",
            [
                Step("choose", "sre", "choose what to restore", self._act("choose"), self._look),
                Step("share", "customer", "share the names", self._act("share")),
                Step("restore", "sre", "restore it", self._act("restore")),
            ],
            [Parameter("backup", "which one", "newest"), Parameter("to", "until when")],
        )
        self.situation = Situation(Region("east"), Engine("none", {}), {"to": "now"}, self.said.append)

    def _look(self, situation: Situation) -> str:
        situation.found["chosen"] = f"all until {situation.values['to']}"
        return str(situation.found["chosen"])

    def _act(self, name: str):  # noqa: ANN202 - a step's function
        def act(situation: Situation) -> str:
            if name == self.breaks:
                raise HarnessError("the store does not answer")
            self.done.append(name)
            return str(situation.found["chosen"]) if name == "restore" else ""

        return act

    def events(self) -> list[tuple[str, str | None, str, str | None]]:
        """Return what is on the timeline: kind, actor, step, outcome."""
        return [(one.kind, one.actor, one["step"], one.get("outcome")) for one in read_timeline(self.timeline.path)]


def test_each_step_is_on_the_timeline_with_its_actor_and_outcome(tmp_path: Path) -> None:
    """In order, a beginning and an end each; what a look found is there for the step."""
    bench = Bench(tmp_path)
    assert carry_out(bench.runbook, bench.situation, bench.timeline) >= 0
    assert bench.done == ["choose", "share", "restore"]
    assert bench.events() == [
        ("runbook.step.begin", "sre", "choose", None),
        ("runbook.step.end", "sre", "choose", "ok"),
        ("runbook.step.begin", "customer", "share", None),
        ("runbook.step.end", "customer", "share", "ok"),
        ("runbook.step.begin", "sre", "restore", None),
        ("runbook.step.end", "sre", "restore", "ok"),
    ]
    assert read_timeline(bench.timeline.path)[-1]["seen"] == "all until now"
    assert all(one["took_s"] >= 0 for one in read_timeline(bench.timeline.path) if one.kind.endswith("end"))


def test_a_look_touches_nothing(tmp_path: Path) -> None:
    """It says what the steps would act on; nothing is done and nothing is written down."""
    bench = Bench(tmp_path)
    assert [(step.name, seen) for step, seen in looked_at(bench.runbook, bench.situation)] == [
        ("choose", "all until now"), ("share", ""), ("restore", ""),
    ]  # fmt: skip
    assert not bench.done
    assert not bench.events()


def test_a_step_that_fails_ends_the_runbook(tmp_path: Path) -> None:
    """Its end says so and why; what comes after it is not done."""
    bench = Bench(tmp_path, breaks="share")
    with pytest.raises(HarnessError, match="does not answer"):
        carry_out(bench.runbook, bench.situation, bench.timeline)
    assert bench.done == ["choose"]
    assert bench.events()[-1] == ("runbook.step.end", "customer", "share", "failed")
    assert read_timeline(bench.timeline.path)[-1]["seen"] == "HarnessError: the store does not answer"


def test_what_cannot_be_done_is_known_before_anything_is(tmp_path: Path) -> None:
    """A look that finds nothing to restore from ends it before the first step."""
    bench = Bench(tmp_path)

    def nothing(_situation: Situation) -> str:
        raise UsageError("there is no backup")

    last = Step("check", "sre", "check it", bench.runbook.steps[0].act, nothing)
    runbook = Runbook("mend", "Mend it", "It is broken.", [*bench.runbook.steps, last])
    with pytest.raises(UsageError, match="no backup"):
        carry_out(runbook, bench.situation, bench.timeline)
    assert not bench.done
    assert not bench.events()


def test_parameters_are_filled_and_checked(tmp_path: Path) -> None:
    """Those that are not given have their defaults; an unknown or a missing one is named."""
    runbook = Bench(tmp_path).runbook
    assert runbook.filled({"to": "10:00"}) == {"backup": "newest", "to": "10:00"}
    with pytest.raises(UsageError, match="no parameter form; it has backup, to"):
        runbook.filled({"to": "10:00", "form": "mds"})
    with pytest.raises(UsageError, match="needs to: give it as `--set to=VALUE`"):
        runbook.filled({})
