"""What the load's clients do at an arrival, and what they write down of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import gevent
import pytest
from fake_catalogue import FakeCatalogue, fake_catalogue

from gameday.errors import HarnessError
from gameday.records import LedgerState, Recorder, Request, read_ledger, read_requests
from gameday.timeline import now
from loadgen import flights, mds
from loadgen.flights import Notebook
from loadgen.mds import ENGINE, MdsClients
from loadgen.schedule import CYCLES, pace

PLAN, LIST, COMMIT, LOAD = (
    CYCLES[ENGINE].index(name) for name in ("plan_query", "list_namespaces", "commit_snapshot", "load_table")
)


class Bench:
    """A catalogue, clients of it with their tables, and what they recorded."""

    def __init__(self, catalogue: FakeCatalogue, url: str, folder: Path) -> None:
        self.catalogue = catalogue
        self.folder = folder
        self.recorder = Recorder(folder, "test")
        self.failures: list[BaseException] = []
        self.told: list[Request] = []
        self.clients = MdsClients(
            url, "load_x", Notebook(ENGINE, self.recorder, self.told.append, self.failures.append)
        )

    def arrive(self, *numbers: int) -> list[Request]:
        """Let arrivals come at once, wait for their end, and return the requests that were recorded of them."""
        before = len(read_requests(self.folder))
        for number in numbers:
            self.clients.arrive(number, now()[1])
        self.clients.finish()
        return read_requests(self.folder)[before:]

    def states(self) -> list[LedgerState]:
        """Return the states of the ledger in their order."""
        return [entry.state for entry in read_ledger(self.folder)]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Yield clients with a dozen tables, whose retries wait a thousandth of what they would."""
    monkeypatch.setattr(mds, "_TABLES", 12)
    wait = gevent.sleep
    monkeypatch.setattr("gevent.sleep", lambda seconds=0: wait(seconds / 1000))
    with fake_catalogue() as (catalogue, url):
        made = Bench(catalogue, url, tmp_path)
        made.clients.prepare()
        yield made
        made.clients.finish()
        made.recorder.close()


def test_a_planned_query_loads_twelve_tables_at_once(bench: Bench) -> None:
    """An engine's planning is twelve requests of the same intended moment, to twelve different tables."""
    bench.catalogue.seen.clear()
    requests = bench.arrive(PLAN)
    assert [request.operation for request in requests] == ["load_table"] * 12
    assert len({request.intended for request in requests}) == 1
    assert len(set(bench.catalogue.seen)) == 12


def test_a_commit_is_attempted_and_then_acknowledged(bench: Bench) -> None:
    """The ledger has the attempt and the acknowledgement of the snapshot that the catalogue holds."""
    (request,) = bench.arrive(COMMIT)
    assert (request.outcome, request.status, request.replica) == ("ok", 200, "mds-1")
    assert bench.states() == ["attempted", "acknowledged"]
    assert {entry.item for entry in read_ledger(bench.folder)} == bench.catalogue.snapshots
    assert {entry.place.partition(".")[0] for entry in read_ledger(bench.folder)} == {"load_x"}


@pytest.mark.parametrize("status", [None, 500, 502, 503, 504])
def test_a_commit_whose_answer_was_lost_is_looked_for(bench: Bench, status: int | None) -> None:
    """A commit that was carried out without a clear answer is found in the table: acknowledged, and one request."""
    bench.catalogue.fail("POST", status, carried_out=True)
    (request,) = bench.arrive(COMMIT)
    assert (request.outcome, request.attempts, len(request.attempt_errors)) == ("ok", 2, 1)
    assert bench.states() == ["attempted", "acknowledged"]


def test_a_commit_that_is_not_found_stays_unknown(bench: Bench) -> None:
    """Without the snapshot in the table the client saw an error, and the ledger claims neither fate."""
    bench.catalogue.fail("POST", 502)
    (request,) = bench.arrive(COMMIT)
    assert (request.outcome, request.status, request.error) == ("error", 502, "HTTP 502")
    assert bench.states() == ["attempted", "unknown"]


def test_a_commit_that_was_refused_is_rejected(bench: Bench) -> None:
    """A conflict is a clear answer: rejected, without a look at the table."""
    bench.catalogue.fail("POST", 409)
    (request,) = bench.arrive(COMMIT)
    assert (request.outcome, request.attempts) == ("error", 1)
    assert bench.states() == ["attempted", "rejected"]


def test_a_conflict_after_an_attempt_of_unknown_fate_is_looked_into(bench: Bench) -> None:
    """A repeated commit that conflicts with its own first attempt was acknowledged."""
    bench.catalogue.fail("POST", 503, carried_out=True, headers={"Retry-After": "1"})
    (request,) = bench.arrive(COMMIT)
    assert (request.outcome, request.attempts) == ("ok", 3)
    assert request.attempt_errors == ["HTTP 503", "HTTP 409"]
    assert bench.states() == ["attempted", "acknowledged"]


def test_tables_come_back_after_an_outage(bench: Bench) -> None:
    """Commits that failed in an outage, more than there are tables, leave no table unusable after it."""
    for _ in range(3):
        bench.catalogue.fail("POST", times=12)
        bench.catalogue.fail("GET", 409, times=12)
        assert {request.outcome for request in bench.arrive(*[COMMIT] * 12)} == {"error"}
        bench.catalogue.failures.clear()
    assert [request.outcome for request in bench.arrive(*[COMMIT] * 12)] == ["ok"] * 12
    acknowledged = {entry.item for entry in read_ledger(bench.folder) if entry.state == "acknowledged"}
    assert len(acknowledged) == 12
    assert acknowledged <= bench.catalogue.snapshots


def test_a_commit_after_one_of_unknown_fate_looks_at_the_table_first(bench: Bench) -> None:
    """A commit that was carried out unseen does not make the next to its table conflict: the table is read again."""
    for _ in range(12):
        bench.catalogue.fail("POST", 502, carried_out=True)
        bench.catalogue.fail("GET", 409)
        bench.arrive(COMMIT)
    assert bench.states() == ["attempted", "unknown"] * 12
    bench.catalogue.seen.clear()
    (request,) = bench.arrive(COMMIT)
    assert (request.outcome, request.attempts) == ("ok", 2)
    assert [method for method, _ in bench.catalogue.seen] == ["GET", "POST"]


def test_a_client_does_not_conflict_with_itself(bench: Bench) -> None:
    """Commits at the same moment take different tables; one more than there are tables is dropped."""
    requests = bench.arrive(*[COMMIT] * 13)
    assert sorted(request.outcome for request in requests) == ["dropped"] + ["ok"] * 12


def test_what_finds_no_room_is_dropped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound of requests in flight an arrival is recorded as dropped, with its due time."""
    monkeypatch.setattr(flights, "_FINISH_S", 0.1)
    bench.catalogue.running.clear()
    due = now()[1]
    for _ in range(flights.IN_FLIGHT_MAX + 3):
        bench.clients.arrive(LOAD, due)
    dropped = read_requests(bench.folder)
    assert [(request.outcome, request.intended, request.attempts) for request in dropped] == [("dropped", due, 0)] * 3


def test_what_is_in_flight_at_the_end_is_unfinished(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that the end of the load cuts off is recorded once, as unfinished."""
    monkeypatch.setattr(flights, "_FINISH_S", 0.1)
    bench.catalogue.running.clear()
    (request,) = bench.arrive(LIST)
    assert request.outcome == "unfinished"
    bench.catalogue.running.set()
    gevent.sleep(100)
    assert len(read_requests(bench.folder)) == 1


def test_evidence_that_cannot_be_written_is_a_failure_of_the_load(bench: Bench) -> None:
    """A recorder that fails is told, not lost with the greenlet that it happened in."""
    bench.recorder.close()
    bench.clients.arrive(LIST, now()[1])
    bench.clients.finish()
    gevent.sleep(0)
    assert [type(error) for error in bench.failures] == [OSError]
    bench.recorder = Recorder(bench.folder, "again")


def test_a_catalogue_that_refuses_the_tables_is_said() -> None:
    """A load that cannot create what it needs says what the catalogue answered."""
    with fake_catalogue() as (catalogue, url):
        catalogue.fail("POST", 403)
        with pytest.raises(HarnessError, match="HTTP 403"):
            MdsClients(url, "load_x", Notebook(ENGINE, None, lambda _: None, lambda _: None)).prepare()


def test_the_rate_does_not_depend_on_the_server(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the server is frozen arrivals come as before, each on its due time; latency counts from there."""
    monkeypatch.undo()
    frozen = threading.Timer(0.5, bench.catalogue.running.clear)
    thawed = threading.Timer(1.5, bench.catalogue.running.set)
    frozen.start()
    thawed.start()
    begin = now()[1]
    pace(50, lambda _, due: bench.clients.arrive(LIST, due), lambda: now()[1] - begin >= 2.0)
    bench.clients.finish()
    requests = read_requests(bench.folder)
    assert len(requests) == pytest.approx(100, rel=0.02)
    steps = [after.intended - before.intended for before, after in pairwise(requests)]
    assert all(step == pytest.approx(0.02, abs=1e-6) for step in steps)
    assert max(request.latency_s for request in requests) == pytest.approx(1.0, abs=0.1)


def test_a_pacer_that_wakes_late_lets_all_come_that_are_due() -> None:
    """A process that was held up issues what it missed, with the due times that it had."""
    arrivals: list[tuple[int, float]] = []
    begin = now()[1]

    def arrive(number: int, due: float) -> None:
        if number == 5:
            # not gevent's sleep: this holds up the pacer too
            threading.Event().wait(0.2)
        arrivals.append((number, due - begin))

    pace(100, arrive, lambda: now()[1] - begin >= 0.5)
    gevent.sleep(0)
    assert [number for number, _ in arrivals] == list(range(len(arrivals)))
    assert len(arrivals) == pytest.approx(50, abs=1)
    assert all(due == pytest.approx(number / 100, abs=0.01) for number, due in arrivals)
