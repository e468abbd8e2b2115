"""The load as a process: that it begins, keeps its rate, ends in peace, and never outlives the harness."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import cast

import pytest
from fake_catalogue import FakeCatalogue, fake_catalogue
from fake_presto import fake_presto
from fake_spark import fake_spark

from gameday.activities import stop_loads
from gameday.errors import HarnessError
from gameday.records import Request, read_ledger, read_requests, read_workloads
from gameday.session import Session
from gameday.timeline import now
from gameday.waiting import wait_until
from loadgen.process import LOCUSTFILE, Load
from loadgen.schedule import ARRIVALS_PER_S, declared_rates

JOB = {"name": "sums", "executors": 1, "arguments": {"rows": 10, "partitions": 2, "rounds": 3, "pace_s": 1, "seed": 7}}
# A harness of its own that starts a load, says that it is ready, and waits to be killed.
HARNESS = """
import sys, time
from pathlib import Path
from loadgen.process import Load
load = Load("mds", sys.argv[1], Path(sys.argv[2]), arrivals_per_s=10, workers=int(sys.argv[3]))
load.start()
load.wait_ready(30)
print("ready", flush=True)
time.sleep(60)
"""


def spacing(requests: list[Request]) -> float:
    """Return the seconds between two arrivals, by the median of all."""
    moments = sorted({request.intended for request in requests})
    return median(after - before for before, after in pairwise(moments))


def locust(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Locust by hand."""
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *arguments]
    environment = {**os.environ, "PRESTO_PASSWORD": "secret"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


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
    # so many that each user commits ten times, and makes a table instead of the tenth
    load = Load("mds", catalogue[1], tmp_path, arrivals_per_s=48, users=users, workers=workers)
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
    assert len(steady) == pytest.approx(120, abs=2)
    assert sorted(request.outcome for request in requests if request.outcome != "ok") == ["error"]
    assert {request.operation for request in requests} == set(declared_rates("mds", 1))
    acknowledged = {entry.item for entry in read_ledger(tmp_path) if entry.state == "acknowledged"}
    assert acknowledged == catalogue[0].snapshots
    await_end(tmp_path)


def test_loads_that_are_asked_at_once_end_beside_each_other(
    catalogue: tuple[FakeCatalogue, str], tmp_path: Path
) -> None:
    """No arrival comes once a load was asked, whenever somebody waits for its end; asked again it hears nothing."""
    loads = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        loads.append(Load("mds", catalogue[1], tmp_path / name, arrivals_per_s=20))
        loads[-1].start()
    for load in loads:
        load.wait_ready(30)
    time.sleep(0.5)
    # what is in flight keeps them for a while
    catalogue[0].running.clear()
    time.sleep(0.5)
    _, asked = now()
    for load in loads:
        load.end()
    time.sleep(2)
    assert all(load.alive() for load in loads)
    for load in loads:
        load.stop(20)
    catalogue[0].running.set()
    for name in ("one", "two"):
        arrived = [request.intended for request in read_requests(tmp_path / name)]
        assert len(arrived) > 5
        assert max(arrived) < asked + 1
        assert (tmp_path / name / "load-mds.log").read_text().count("Got SIGTERM") == 1


def test_a_load_that_failed_keeps_no_other_from_being_stopped(
    catalogue: tuple[FakeCatalogue, str], tmp_path: Path
) -> None:
    """Whatever order they are in; that one failed is told when all have ended."""
    loads = {}
    for name, settings in (("one", ["--no-such"]), ("two", []), ("three", ["--no-such"])):
        (tmp_path / name).mkdir()
        loads[name] = Load("mds", catalogue[1], tmp_path / name, arrivals_per_s=5, options=settings)
        loads[name].start()
    loads["two"].wait_ready(30)
    with pytest.raises(HarnessError, match="exit code"):
        stop_loads(cast("Session", SimpleNamespace(loads=loads)))
    assert not any(load.alive() for load in loads.values())


@pytest.mark.parametrize("working_s", [1.0, 0.0])
def test_no_arrival_comes_before_the_load_may_begin(
    catalogue: tuple[FakeCatalogue, str], tmp_path: Path, working_s: float
) -> None:
    """It is ready and waits for a file; one that never comes does not keep the load from ending in peace."""
    begin = tmp_path / "begin"
    load = Load("mds", catalogue[1], tmp_path, arrivals_per_s=20, options=["--begin-file", str(begin)])
    load.start()
    load.wait_ready(30)
    time.sleep(1)
    assert read_requests(tmp_path) == []
    _, moment = now()
    if working_s:
        begin.touch()
        time.sleep(working_s)
    load.stop(20)
    arrived = [request.intended for request in read_requests(tmp_path)]
    assert len(arrived) > 10 * working_s if working_s else not arrived
    assert all(moment < intended < moment + 1.5 * working_s for intended in arrived)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_load_ends_when_the_harness_is_killed(
    catalogue: tuple[FakeCatalogue, str], tmp_path: Path, workers: int
) -> None:
    """A harness killed with SIGKILL, and not buried by its own parent, leaves no load behind."""
    harness = subprocess.Popen(
        [sys.executable, "-c", HARNESS, catalogue[1], str(tmp_path), str(workers)], stdout=subprocess.PIPE
    )
    assert harness.stdout is not None
    assert harness.stdout.readline() == b"ready\n", (tmp_path / "load-mds.log").read_text()
    assert processes_of(tmp_path)
    harness.send_signal(signal.SIGKILL)
    await_end(tmp_path)
    assert Path(f"/proc/{harness.pid}").exists()
    harness.wait()
    harness.stdout.close()


def test_a_load_that_cannot_begin_says_why(tmp_path: Path) -> None:
    """With nobody to talk to the load ends, and the wait for it says what was the matter."""
    load = Load("mds", "http://127.0.0.1:1", tmp_path, arrivals_per_s=5)
    load.start()
    with pytest.raises(HarnessError, match=r"the load ended before it began.*connection refused"):
        load.wait_ready(30)
    with pytest.raises(HarnessError, match="exit code 1"):
        load.stop(5)


def test_evidence_with_a_hole_ends_the_load(catalogue: tuple[FakeCatalogue, str], tmp_path: Path) -> None:
    """A load that cannot write down what it saw ends with an error, also where that happened in a worker."""
    load = Load("mds", catalogue[1], tmp_path, arrivals_per_s=20, workers=1)
    load.start()
    load.wait_ready(30)
    (recorded,) = tmp_path.glob("requests-*.jsonl")
    writer = int(recorded.stem.split("-")[1])
    # every further line would go beyond the size that the process may write
    subprocess.run(["prlimit", f"--pid={writer}", f"--fsize={recorded.stat().st_size}"], check=True)
    wait_until("the load to end by itself", lambda: "alive" if load.alive() else None, deadline_s=10, every_s=0.1)
    with pytest.raises(HarnessError, match=r"exit code 1.*the load failed at an arrival"):
        load.stop(5)


def test_loads_of_several_engines_run_side_by_side(tmp_path: Path) -> None:
    """Each engine's load keeps its cycle in one run folder, with a log of its own, and ends its long work."""
    with fake_presto() as (presto, presto_url), fake_spark() as (spark, spark_url):
        loads = [
            Load("presto", presto_url, tmp_path, arrivals_per_s=10, options=["--presto-user", "ann"]),
            Load("spark", spark_url, tmp_path, arrivals_per_s=10, options=["--jobs", json.dumps([JOB])]),
        ]
        for load in loads:
            load.start()
        for load in loads:
            load.wait_ready(30)
        time.sleep(1.5)
        for load in loads:
            load.stop(20)
        requests, workloads = read_requests(tmp_path), read_workloads(tmp_path)
        for engine in ("presto", "spark"):
            own = [request for request in requests if request.engine == engine]
            assert {request.operation for request in own} == set(declared_rates(engine, 1))
            assert {request.outcome for request in own} == {"ok"}
            assert spacing(own) == pytest.approx(0.1)
            assert len(own) >= 14
            assert (tmp_path / f"load-{engine}.log").exists()
        assert {workload.engine: workload.last.state for workload in workloads} == dict.fromkeys(
            ("presto", "spark"), "unfinished"
        )
        assert presto.cancelled == [workloads[0].last.engine_id] or presto.cancelled == [workloads[1].last.engine_id]
        assert spark.deleted == list(spark.jobs)
        acknowledged = {entry.item for entry in read_ledger(tmp_path) if entry.state == "acknowledged"}
        assert acknowledged == {item for item, _ in presto.saved}
        assert {sent["X-Presto-User"] for sent in presto.seen_headers} == {"ann"}
    await_end(tmp_path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--jobs", "[]"], "asked for an empty list of jobs"),
        (["--jobs", json.dumps([{**JOB, "executors": 2}]), "--ready-deadline-s", "1"], r"1 of 2 executors active"),
    ],
)
def test_a_load_that_is_not_ready_says_why_and_leaves_nothing(
    tmp_path: Path, options: list[str], sentence: str
) -> None:
    """The sentence is that of the load, and the jobs that it had submitted are taken away."""
    with fake_spark() as (spark, url):
        spark.missing = 1
        load = Load("spark", url, tmp_path, arrivals_per_s=5, options=options)
        load.start()
        with pytest.raises(HarnessError, match=rf"the load ended before it began.*{sentence}"):
            load.wait_ready(30)
        with pytest.raises(HarnessError, match="exit code 1"):
            load.stop(20)
        assert spark.deleted == list(spark.jobs)


@pytest.mark.parametrize(("engine", "user"), [("mds", "MdsUser"), ("presto", "PrestoUser"), ("spark", "SparkUser")])
def test_each_class_works_alone(tmp_path: Path, engine: str, user: str) -> None:
    """By hand, with nothing but an address, a class keeps its own rate and cycle."""
    servers = {"mds": fake_catalogue, "presto": fake_presto, "spark": fake_spark}
    with servers[engine]() as (_, url):
        settings = ["--host", url, "--run-time", "12s", "--stop-timeout", "6", "--run-folder", "."]
        ran = locust(tmp_path, "--headless", *settings, user)
    assert ran.returncode == 0, ran.stderr
    requests = read_requests(tmp_path)
    assert {request.engine for request in requests} == {engine}
    assert {request.operation for request in requests} >= set(declared_rates(engine, 1)) - {"create_table"}
    assert spacing(requests) == pytest.approx(1 / ARRIVALS_PER_S[engine])
    assert all(request.operation in ran.stderr for request in requests)


def test_a_load_that_is_stopped_before_it_began_leaves_nothing(tmp_path: Path) -> None:
    """Jobs that were submitted are taken away also where the harness does not wait for them to run."""
    with fake_spark() as (spark, url):
        spark.missing = 1
        load = Load("spark", url, tmp_path, arrivals_per_s=5, options=["--jobs", json.dumps([JOB])])
        load.start()
        wait_until("the job to be submitted", lambda: None if spark.jobs else "none", deadline_s=30)
        load.stop(20)
        assert spark.deleted == list(spark.jobs)
    assert read_workloads(tmp_path)[0].last.state == "unfinished"


def test_locust_offers_all_classes(tmp_path: Path) -> None:
    """Each engine's class may be chosen by name; one without an address says what is missing."""
    listed = locust(tmp_path, "--list").stdout.splitlines()
    assert {line.strip() for line in listed} >= {"MdsUser", "PrestoUser", "SparkUser"}
    ran = locust(tmp_path, "--headless", "PrestoUser")
    assert ran.returncode == 1
    assert "no address of presto: give --presto-url or --host" in ran.stderr
