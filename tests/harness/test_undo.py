"""Undo records: on disk before a fault, readable by another process, gone after the healing."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.undo import Undo, forget, outstanding, remember
from gameday.errors import UsageError
from gameday.regions import region_named


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the state of this test in a folder of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def test_records_come_back_oldest_first_until_they_are_forgotten() -> None:
    """What was remembered is outstanding, in the order of its faults, and a healed one is not."""
    region = region_named("east")
    second = Undo("zone-power-loss", "b", ["zone-b"], ["chaos-east-worker2"], "runs/2", 2.0)
    first = Undo("zone-power-loss", "a", ["zone-a"], ["chaos-east-worker"], "runs/1", 1.0)
    remember(region, second)
    remember(region, first)
    assert outstanding(region) == [first, second]
    forget(region, "a")
    assert outstanding(region) == [second]
    forget(region, "a")


def test_regions_do_not_see_each_others_records() -> None:
    """A fault in one region is none of another's."""
    remember(region_named("east"), Undo("zone-drain", "a", ["zone-a"], [], "runs/1", 1.0))
    assert outstanding(region_named("west")) == []


def test_a_record_that_cannot_be_read_is_said_and_not_passed_over(state: Path) -> None:
    """A damaged record may stand for a dead zone, so nothing goes on as if it were not there."""
    region = region_named("east")
    remember(region, Undo("zone-drain", "a", ["zone-a"], [], "runs/1", 1.0))
    next(state.rglob("a.json")).write_text('{"fault":')
    with pytest.raises(UsageError, match=r"a\.json cannot be read"):
        outstanding(region)


@pytest.mark.parametrize("name", ["", "East", "1st", "a-", "a" * 17, "a/b"])
def test_a_name_that_cannot_be_a_region_is_refused(name: str) -> None:
    """Region names become names of containers and folders, so they are checked first."""
    with pytest.raises(UsageError, match="region"):
        region_named(name)
