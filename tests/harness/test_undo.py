"""Undo records: on disk before a fault, readable by another process, gone after the healing."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaoslib.exceptions import ActivityFailed
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from faults.undo import Undo, forget, outstanding, remember
from gameday import cli_run
from gameday.cli_run import _heal_all
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


@pytest.mark.parametrize("error", [ApiException(status=500), ActivityFailed("no such node"), HTTPError("reset")])
def test_what_cannot_be_healed_keeps_no_other_fault_in_place(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Whoever raised it: the client of Kubernetes and Chaos Toolkit have errors of their own."""
    region = region_named("east")
    remember(region, Undo("zone-drain", "a", ["zone-a"], [], "runs/1", 1.0))
    remember(region, Undo("zone-power-loss", "b", ["zone-b"], [], "runs/1", 2.0))

    def heal(_session: object, fault: str, _zones: list[str]) -> None:
        if fault == "zone-drain":
            raise error

    monkeypatch.setattr(cli_run, "heal_in", heal)
    for name in ("_recovery_session", "enter"):
        monkeypatch.setattr(cli_run, name, lambda _: None)
    monkeypatch.setattr(cli_run, "leave", lambda: None)
    healed, failed = _heal_all(region)
    assert [one["fault"] for one in healed] == ["zone-power-loss"]
    assert len(failed) == 1
    assert failed[0].startswith("zone-drain in zone-a (")


@pytest.mark.parametrize("name", ["", "East", "1st", "a-", "a" * 17, "a/b"])
def test_a_name_that_cannot_be_a_region_is_refused(name: str) -> None:
    """Region names become names of containers and folders, so they are checked first."""
    with pytest.raises(UsageError, match="region"):
        region_named(name)
