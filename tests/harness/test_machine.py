"""Whose the machine's cores are, read from this machine's own kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gameday import machine
from gameday.errors import HarnessError
from gameday.machine import Cores, between, cgroup_files, look, used_s

_SPIN = "while True: pass"
BEFORE = Cores(mono=100.0, busy=50.0, stolen=1.0, idle=30.0, region={"a": 10.0, "b": 5.0}, harness=2.0)
AFTER = Cores(mono=102.0, busy=53.0, stolen=1.2, idle=30.8, region={"a": 11.0, "b": 5.5}, harness=2.3)


@contextmanager
def spinning() -> Iterator[psutil.Process]:
    """Let a process of ours compute."""
    with subprocess.Popen([sys.executable, "-c", _SPIN]) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()


def test_what_is_nobodys_is_others() -> None:
    """Of three seconds that ran in two, 1.5 are the region's and 0.3 the harness's."""
    assert between(BEFORE, AFTER) == {
        "seconds": 2.0, "region": 0.75, "harness": 0.15, "others": 0.6, "stolen": 0.1, "idle": 0.4,
    }  # fmt: skip


@pytest.mark.parametrize("region", [{"a": 11.0}, {"a": 11.0, "b": 5.5, "c": 0.1}, {"a": 11.0, "b": 0.2}])
def test_a_second_in_which_a_container_began_or_ended_is_not_told(region: dict[str, float]) -> None:
    """Nobody knows what it used in it; the next second is told again."""
    after = replace(AFTER, region=region)
    assert between(BEFORE, after) is None
    assert between(after, replace(after, mono=103.0)) is not None


def test_what_was_never_waited_for_makes_no_others() -> None:
    """A process of the harness that is gone takes its time along."""
    told = between(BEFORE, replace(AFTER, harness=0.5))
    assert told is not None
    assert told["harness"] == 0.0


def test_what_was_read_too_early_is_made_up_for_in_the_next_second() -> None:
    """A second that has less than nothing for others is told so, or the one after it had too much for good."""
    told = between(BEFORE, replace(AFTER, busy=51.5))
    assert told is not None
    assert told["others"] == -0.15


def test_a_process_of_the_harness_is_its_own() -> None:
    """One that it started, while that still runs."""
    before = look([])
    with spinning() as process:
        time.sleep(1.0)
        spent = process.cpu_times()
        after = look([])
    assert spent.user > 0.1
    # by the counters, not by what is told: a share rounded down was less than a process had used; they count in whole
    # ticks of the kernel's clock, so that half of one is only what sums of floats leave
    half_a_tick = 0.5 / os.sysconf("SC_CLK_TCK")
    assert after.harness - before.harness > spent.user + spent.system - half_a_tick


def test_cgroups_are_found_by_the_first_process_of_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of both versions; what is below a container belongs to it."""
    identifier = "0123456789abcdef" * 4
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_PROCESSES", tmp_path / "proc")
    wanted = {
        1: (f"3:cpuset:/\n2:cpu,cpuacct:/pods/libpod-{identifier}/init\n0::/x\n",
            f"cpu,cpuacct/pods/libpod-{identifier}/cpuacct.usage", "2500000000\n"),
        2: (f"0::/system.slice/docker-{identifier}.scope/init.scope\n",
            f"system.slice/docker-{identifier}.scope/cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
    }  # fmt: skip
    for pid, (said, file, content) in wanted.items():
        for path, text in ((tmp_path / "proc" / str(pid) / "cgroup", said), (tmp_path / file, content)):
            path.parent.mkdir(parents=True)
            path.write_text(text)
        (found,) = cgroup_files([pid])
        assert found == tmp_path / file
        assert used_s(found) == 2.5
    (tmp_path / "proc" / "3").mkdir()
    (tmp_path / "proc" / "3" / "cgroup").write_text("0::/user.slice\n")
    with pytest.raises(HarnessError, match="process 3 and of its container is not told"):
        cgroup_files([3])
    with pytest.raises(HarnessError, match="the cgroup of process 4 cannot be read"):
        cgroup_files([4])
