"""The hour of backups: a real one unless another was declared, kept for the region, and never one too short."""

from __future__ import annotations

from pathlib import Path

import pytest

from gameday.errors import HarnessError, UsageError
from gameday.regions import Region
from lakehouse import hour

pytestmark = pytest.mark.needs("backup")


@pytest.fixture
def region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Region:
    """Return a region whose files are in a folder of the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return Region("east")


def test_an_hour_is_a_real_one_until_another_is_declared(region: Region) -> None:
    """What was declared last holds."""
    assert hour.declared(region) == 3600
    hour.declare(region, 120)
    hour.declare(region, 90.5)
    assert hour.declared(region) == 90.5


@pytest.mark.parametrize("seconds", [0.0, 29.9, 3600.1, float("nan"), float("inf"), -60.0])
def test_an_hour_in_which_nothing_can_be_backed_up_is_refused(region: Region, seconds: float) -> None:
    """And what was declared before stays."""
    hour.declare(region, 60)
    with pytest.raises(UsageError, match="from 30 to 3600 s"):
        hour.declare(region, seconds)
    assert hour.declared(region) == 60


def test_a_damaged_file_is_no_real_hour(region: Region) -> None:
    """Nobody is told that backups are in time by another hour than theirs."""
    hour.declare(region, 60)
    (region.folder / "hour-seconds").write_text("soon")
    with pytest.raises(HarnessError, match="declare the hour anew"):
        hour.declared(region)
