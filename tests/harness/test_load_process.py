"""The load as a process: that it begins, keeps its rate, ends in peace, and never outlives the harness."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_catalogue import FakeCatalogue, fake_catalogue

from gameday.errors import HarnessError
from gameday.records import read_ledger, read_requests
from gameday.waiting import wait_until
from loadgen.process import Load
from loadgen.schedule import declared_rates

# A harness of its own that starts a load, says that it is ready, and waits to be killed.
HARNESS = """
import sys, time
from pathlib import Path
from loadgen.process import Load
load = Load(sys.argv[1], Path(sys.argv[2]), arrivals_per_s=10, workers=int(sys.argv[3]))
load.start()
load.wait_ready(30)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def catalogue() -> Iterator[tuple[FakeCatalogue, str]]:
    """Yield a catalogue and its URL."""
    with fake_catalogue() as served:
        yield served


def processes_of(folder: Path) -> list[int]:
    """Return the numbers of the processes that have `folder` on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(folder).encode() in words and b"locust" in words:
            found.append(int(path.parent.name))
    return found


def await_end(folder: Path) -> None:
    """Wait until no process of the load on `folder` is left."""
    wait_until("the load to end", lambda: str(processes_of(folder) or "") or None, deadline_s=10, every_s=0.1)


@pytest.mark.parametrize(("users", "workers"), [(1, 0), (2, 2)])
def test_the_load_keeps_its_rate_and_ends_in_peace(
    catalogue: tuple[FakeCatalogue, str], tmp_path: Path, users: int, workers: int
) -> None:
    """All users together arrive at the rate asked for, ±2 %, also from Locust's workers; the end leaves no process.

    Requests that fail are what the load is there to see, and no failure of the load.
    """
    load = Load(catalogue[1], tmp_path, arrivals_per_s=20, users=users, workers=workers)
    load.start()
    load.wait_ready(30)
    catalogue[0].fail("POST", 409)
    time.sleep(2.8)
    assert load.alive()
    load.stop(20)
    assert not load.alive()
    requests = read_requests(tmp_path)
    moments = sorted({request.intended for request in requests})
    steady = [moment for moment in moments if moments[0] + 0.2 <= moment < moments[0] + 2.7]
    assert len(steady) == pytest.approx(50, abs=1)
    assert sorted(request.outcome for request in requests if request.outcome != "ok") == ["error"]
    assert {request.operation for request in requests} == set(declared_rates(1))
    acknowledged = {entry.item for entry in read_ledger(tmp_path) if entry.state == "acknowledged"}
    assert acknowledged == catalogue[0].snapshots
    await_end(tmp_path)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_load_ends_when_the_harness_is_killed(
    catalogue: tuple[FakeCatalogue, str], tmp_path: Path, workers: int
) -> None:
    """A harness killed with SIGKILL, and not buried by its own parent, leaves no load behind."""
    harness = subprocess.Popen(
        [sys.executable, "-c", HARNESS, catalogue[1], str(tmp_path), str(workers)], stdout=subprocess.PIPE
    )
    assert harness.stdout is not None
    assert harness.stdout.readline() == b"ready\n", (tmp_path / "load.log").read_text()
    assert processes_of(tmp_path)
    harness.send_signal(signal.SIGKILL)
    await_end(tmp_path)
    assert Path(f"/proc/{harness.pid}").exists()
    harness.wait()
    harness.stdout.close()


def test_a_load_that_cannot_begin_says_why(tmp_path: Path) -> None:
    """With nobody to talk to the load ends, and the wait for it says what was the matter."""
    load = Load("http://127.0.0.1:1", tmp_path, arrivals_per_s=5)
    load.start()
    with pytest.raises(HarnessError, match=r"the load ended before it began.*connection refused"):
        load.wait_ready(30)
    with pytest.raises(HarnessError, match="exit code 1"):
        load.stop(5)


def test_evidence_with_a_hole_ends_the_load(catalogue: tuple[FakeCatalogue, str], tmp_path: Path) -> None:
    """A load that cannot write down what it saw ends with an error, also where that happened in a worker."""
    load = Load(catalogue[1], tmp_path, arrivals_per_s=20, workers=1)
    load.start()
    load.wait_ready(30)
    (recorded,) = tmp_path.glob("requests-*.jsonl")
    writer = int(recorded.stem.split("-")[1])
    # every further line would go beyond the size that the process may write
    subprocess.run(["prlimit", f"--pid={writer}", f"--fsize={recorded.stat().st_size}"], check=True)
    wait_until("the load to end by itself", lambda: "alive" if load.alive() else None, deadline_s=10, every_s=0.1)
    with pytest.raises(HarnessError, match=r"exit code 1.*the load failed at an arrival"):
        load.stop(5)
