"""What a baseline says at once: that the machine is too full for the promises on what clients suffer."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from builders import SyntheticRun

from gameday import activities
from gameday.paths import PROJECT


@pytest.mark.parametrize(("idle", "said"), [(0.29, 1), (0.3, 0), (None, 0)])
def test_a_full_machine_is_told_of_before_the_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, idle: float | None, said: int
) -> None:
    """With what was idle and what must be; of a machine that nobody watched nothing is said."""
    run = SyntheticRun(tmp_path / "run", "S5.mds.one-zone")
    if idle is not None:
        run.add(20, "machine", seconds=19.0, region=1.6, harness=0.1, others=0.0, stolen=0.0, idle=idle)
    noted: list[str] = []
    timeline = SimpleNamespace(append=lambda kind, actor, **_: noted.append(f"{kind} by {actor}"))
    session = SimpleNamespace(folder=run.save(), contract=PROJECT / "contract.yaml", timeline=timeline)
    monkeypatch.setattr(activities, "current", lambda: session)
    monkeypatch.setattr(activities, "await_steady", lambda: True)
    monkeypatch.setattr(activities, "_observe", lambda *_: None)
    monkeypatch.setattr(activities, "capacity", lambda _: {})
    with caplog.at_level(logging.WARNING, logger="chaostoolkit"):
        activities.baseline(30.0)
    assert noted == ["capacity by harness"]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == said
    assert all("0.29 of a core is idle, less than 0.3" in one for one in told)
