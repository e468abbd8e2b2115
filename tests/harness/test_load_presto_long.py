"""The life of long queries: that they are in flight all the time, and what is written down of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from fake_presto import GONE, FakePresto, fake_presto

from gameday.errors import DeadlinePassed
from gameday.records import Recorder, Workload, read_workloads
from loadgen import presto_long, presto_query
from loadgen.flights import Notebook
from loadgen.presto import ENGINE, PrestoClients

pytestmark = pytest.mark.needs("presto")


class Bench:
    """A Presto, clients of it with one long query, and what they recorded."""

    def __init__(self, served: FakePresto, url: str, folder: Path) -> None:
        self.presto = served
        self.folder = folder
        self.failures: list[BaseException] = []
        self.recorder = Recorder(folder, "test")
        notebook = Notebook(ENGINE, self.recorder, lambda _: None, self.failures.append)
        self.clients = PrestoClients(url, notebook, ready_deadline_s=2)

    def workloads(self) -> list[Workload]:
        """Return what was recorded of the long queries."""
        return read_workloads(self.folder)

    def await_true(self, met: Callable[[], bool]) -> None:
        """Let the clients work until something is so."""
        with gevent.Timeout(5):
            while not met():
                gevent.sleep(0.01)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Yield clients that read a page each hundredth of a second, and tell of it each tenth."""
    monkeypatch.setattr("time.sleep", gevent.sleep)
    monkeypatch.setattr(presto_long, "_PAGE_EVERY_S", 0.01)
    monkeypatch.setattr(presto_long, "_LOOK_S", 0.01)
    monkeypatch.setattr(presto_long, "_PROGRESS_EVERY_S", 0.1)
    monkeypatch.setattr(presto_long, "_AGAIN_AFTER_S", 0.1)
    with fake_presto() as (served, url):
        made = Bench(served, url, tmp_path)
        yield made
        made.clients.finish()
        made.recorder.close()
    assert not made.failures


def test_a_long_query_runs_and_is_ended_with_the_load(bench: Bench) -> None:
    """It is submitted, accepted, running again and again, and in the end unfinished, and ended at Presto."""
    bench.clients.prepare()
    gevent.sleep(0.5)
    bench.clients.finish()
    (query,) = bench.workloads()
    states = [step.state for step in query.steps]
    assert states[:3] == ["submitted", "accepted", "running"]
    assert states[-1] == "unfinished"
    assert 3 <= states.count("running") <= 7
    assert (query.engine, query.kind, query.steps[0].engine_id) == ("presto", "long_query", None)
    assert bench.presto.cancelled == [query.last.engine_id]
    assert query.detail("state") == "RUNNING"
    assert query.detail("completed_splits") == 3
    assert query.detail("rows") > 2


def test_a_long_query_is_read_slowly_once_it_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then it is looked at often, for the load begins when it runs."""
    monkeypatch.setattr(presto_long, "_PAGE_EVERY_S", 60.0)
    bench.presto.has_workers = False
    preparing = gevent.spawn(bench.clients.prepare)

    def asked() -> int:
        """Return how often a page of the long query was asked for."""
        name = next((name for name, statement in bench.presto.queries.items() if "inventory" in statement), "none")
        return sum(method == "GET" and name in path for method, path in bench.presto.seen)

    bench.await_true(lambda: asked() >= 3)
    bench.presto.has_workers = True
    preparing.get(timeout=5)
    before = asked()
    gevent.sleep(0.3)
    assert asked() == before


def test_the_load_begins_when_a_long_query_runs(bench: Bench) -> None:
    """One that waits for workers is not running: the load does not begin, and says what it waited for."""
    bench.presto.has_workers = False
    with pytest.raises(DeadlinePassed, match=r"for a long query to run; last seen: .*_fake is QUEUED"):
        bench.clients.prepare()
    assert [step.state for step in bench.workloads()[0].steps] == ["submitted", "accepted"]


def test_a_long_query_that_fails_is_followed_by_the_next(bench: Bench) -> None:
    """The failure keeps Presto's name, code and words; each of the following is on record, and one succeeds to run."""
    bench.clients.prepare()
    bench.presto.errors["inventory"] = GONE
    bench.await_true(lambda: len(bench.workloads()) >= 3)
    bench.presto.errors.clear()
    bench.await_true(lambda: bench.workloads()[-1].at("running") is not None)
    first, second = bench.workloads()[:2]
    assert (first.last.state, first.last.error_code) == ("failed", 65549)
    assert first.last.error == "NO_NODES_AVAILABLE (65549): No nodes available to run query"
    assert first.name != second.name
    assert 0.1 <= second.steps[0].mono - first.last.mono < 1.0
    # Presto has ended them itself
    assert not bench.presto.cancelled


@pytest.mark.parametrize(("status", "error"), [(404, "HTTP 404"), (None, "connection lost (HTTPConnectionClosed)")])
def test_a_long_query_that_is_gone_has_failed(bench: Bench, status: int | None, error: str) -> None:
    """A coordinator that does not know it any more, or is not there, ends the query for its client."""
    bench.clients.prepare()
    bench.presto.fail("GET", status, times=3)
    bench.await_true(lambda: len(bench.workloads()) > 1)
    first = bench.workloads()[0].last
    assert (first.state, first.error, first.error_code) == ("failed", error, None)
    # for all that is known it is still at work
    bench.await_true(lambda: bench.presto.cancelled == [first.engine_id])


def test_a_long_query_is_not_accepted_by_a_presto_that_is_not_there(bench: Bench) -> None:
    """While nobody takes it each one fails without a name of Presto's, and without having been accepted."""
    bench.clients.prepare()
    bench.presto.fail("GET", 502)
    bench.presto.fail("POST", 502, times=3)
    bench.await_true(lambda: len(bench.workloads()) > 4)
    for query in bench.workloads()[1:4]:
        assert [step.state for step in query.steps] == ["submitted", "failed"]
        assert (query.last.engine_id, query.last.error) == (None, "HTTP 502")


def test_a_frozen_presto_does_not_hold_up_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query whose page is waited for is unfinished, and its ending is given up soon."""
    monkeypatch.setattr(presto_query, "_CANCEL_S", 0.2)
    bench.clients.prepare()
    bench.presto.running.clear()
    gevent.sleep(0.1)
    with gevent.Timeout(3):
        bench.clients.finish()
    assert bench.workloads()[0].last.state == "unfinished"
