"""What Presto's clients do at an arrival: the protocol, its errors and retries, and the ledger of saved queries."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import gevent
import pytest
from fake_presto import GONE, INTERNAL, REFUSED, FakePresto, fake_presto

from gameday.errors import DeadlinePassed
from gameday.records import LedgerState, Recorder, Request, read_ledger, read_requests
from gameday.timeline import now
from loadgen import flights, presto, presto_query
from loadgen.flights import Notebook
from loadgen.presto import ENGINE, PrestoClients
from loadgen.presto_protocol import path_of
from loadgen.presto_query import Query, presto_client
from loadgen.schedule import CYCLES, pace

pytestmark = pytest.mark.needs("presto")

SHIP_MODES, ONE, SAVE, HOUSEHOLDS = (
    CYCLES[ENGINE].index(name) for name in ("count_ship_modes", "select_one", "save_query", "count_households")
)


class Bench:
    """A Presto, clients of it without long queries, and what they recorded."""

    def __init__(self, served: FakePresto, url: str, folder: Path) -> None:
        self.presto = served
        self.folder = folder
        self.failures: list[BaseException] = []
        self.recorder = Recorder(folder, "test")
        notebook = Notebook(ENGINE, self.recorder, lambda _: None, self.failures.append)
        self.clients = PrestoClients(url, notebook, long_queries=0, ready_deadline_s=3)

    def arrive(self, number: int) -> Request:
        """Let an arrival come, wait for its end, and return the request that was recorded of it."""
        before = len(read_requests(self.folder))
        self.clients.arrive(number, now()[1])
        self.clients.finish()
        (request,) = read_requests(self.folder)[before:]
        return request

    def states(self) -> list[LedgerState]:
        """Return the states of the ledger in their order."""
        return [entry.state for entry in read_ledger(self.folder)]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Yield clients whose retries wait a thousandth of what they would."""
    wait = gevent.sleep
    monkeypatch.setattr("gevent.sleep", lambda seconds=0: wait(seconds / 1000))
    # as Locust does with all of a process
    monkeypatch.setattr("time.sleep", wait)
    with fake_presto() as (served, url):
        made = Bench(served, url, tmp_path)
        yield made
        made.clients.finish()
        made.recorder.close()
    assert not made.failures


@pytest.mark.parametrize(
    ("number", "name"), [(SHIP_MODES, "count_ship_modes"), (ONE, "select_one"), (HOUSEHOLDS, "count_households")]
)
def test_a_query_is_followed_to_its_last_page(bench: Bench, number: int, name: str) -> None:
    """A count is one request of three HTTP requests: the statement, the page with its rows, and the last one."""
    request = bench.arrive(number)
    assert (request.operation, request.outcome, request.attempts, request.status) == (name, "ok", 1, 200)
    assert [method for method, _ in bench.presto.seen] == ["POST", "GET", "GET"]
    sent = bench.presto.seen_headers[0]
    assert (sent["X-Presto-User"], sent["X-Presto-Catalog"]) == ("load", "tpcds")
    assert "Authorization" not in sent
    assert not bench.presto.cancelled


def test_pages_are_asked_for_where_the_client_was_sent() -> None:
    """The coordinator's own address is replaced by ours; path and query stay as it gave them."""
    assert (
        path_of(f"http://{INTERNAL}/v1/statement/executing/q/7?slug=x%2F5") == "/v1/statement/executing/q/7?slug=x%2F5"
    )
    assert path_of("http://127.0.0.1:1/v1/a") == "/v1/a"


def test_a_password_is_sent_as_basic_authentication(bench: Bench) -> None:
    """User and password go with the statement and with each page."""
    port = bench.clients._client._http.port
    query = Query(presto_client(f"http://127.0.0.1:{port}", "ann", "secret"), "SELECT 1")
    query.run(5)
    assert query.error is None
    assert {sent["Authorization"] for sent in bench.presto.seen_headers} == {"Basic YW5uOnNlY3JldA=="}


def test_a_wrong_result_is_an_error(bench: Bench) -> None:
    """A query that succeeds with other rows than it must have has failed."""
    bench.presto.counts["tpcds.tiny.ship_mode"] = 19
    request = bench.arrive(SHIP_MODES)
    assert (request.outcome, request.error) == ("error", "wrong result: [[19]] instead of 20")


def test_an_error_is_kept_in_prestos_own_words(bench: Bench) -> None:
    """Name, code and message of the error are those of Presto, and HTTP's status says nothing against it."""
    bench.presto.errors["ship_mode"] = GONE
    request = bench.arrive(SHIP_MODES)
    assert (request.outcome, request.status) == ("error", 200)
    assert request.error == "NO_NODES_AVAILABLE (65549): No nodes available to run query"


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("status", [503, None])
def test_what_may_pass_is_asked_again(bench: Bench, method: str, status: int | None) -> None:
    """A 503 and a lost connection are tried again, of a statement as of a page; the failed attempts stay on record."""
    bench.presto.fail(method, status, times=2)
    request = bench.arrive(SHIP_MODES)
    assert (request.outcome, request.attempts, len(request.attempt_errors)) == ("ok", 3, 2)


@pytest.mark.parametrize(("status", "tries"), [(503, 3), (None, 3), (502, 1), (504, 1), (500, 1), (404, 1)])
def test_a_query_is_given_up_as_the_standard_client_does(bench: Bench, status: int | None, tries: int) -> None:
    """After three attempts, and after the first of any other status, the query has failed, and is ended at Presto."""
    bench.presto.fail("GET", status, times=9)
    request = bench.arrive(SHIP_MODES)
    bench.presto.failures.clear()
    assert request.outcome == "error"
    assert (request.attempts, len(request.attempt_errors), request.status) == (tries, tries, status)
    assert [method for method, _ in bench.presto.seen].count("GET") == tries
    gevent.sleep(200)
    assert list(bench.presto.queries) == bench.presto.cancelled


def test_what_is_in_flight_at_the_end_is_ended_at_presto(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries that nobody asks for any more would hold the places of those that come."""
    monkeypatch.setattr(flights, "_FINISH_S", 0.3)
    bench.presto.endless.add("ship_mode")
    requests = [bench.arrive(SHIP_MODES) for _ in range(2)]
    assert [request.outcome for request in requests] == ["unfinished", "unfinished"]
    assert list(bench.presto.queries) == bench.presto.cancelled


def test_a_query_has_its_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that takes too long in all is recorded as timed out, whatever its single requests do."""
    monkeypatch.setattr(presto, "_QUERY_S", 0.3)
    monkeypatch.setattr(presto_query, "_CANCEL_S", 0.1)
    bench.presto.running.clear()
    request = bench.arrive(SAVE)
    assert (request.outcome, request.error, request.attempts) == ("error", "timed out", 1)
    assert 0.3 <= request.latency_s < 1.0
    assert bench.states() == ["attempted", "unknown"]


def test_a_saved_query_is_attempted_and_then_acknowledged(bench: Bench) -> None:
    """The ledger has the attempt and the acknowledgement of the row that the table holds."""
    assert bench.arrive(SAVE).outcome == "ok"
    assert bench.states() == ["attempted", "acknowledged"]
    ((item, run),) = bench.presto.saved
    entry = read_ledger(bench.folder)[-1]
    assert (entry.engine, entry.place, entry.item) == ("presto", f"console.public.saved_queries/{run}", item)


@pytest.mark.parametrize(
    ("error", "method", "status", "state"),
    [
        (REFUSED, None, 0, "rejected"),
        (GONE, None, 0, "unknown"),
        # Presto may have taken a statement whose answer was lost, and has taken one that it gave pages of
        (None, "POST", None, "unknown"),
        (None, "POST", 502, "unknown"),
        (None, "GET", 503, "unknown"),
        # nobody took it
        (None, "POST", 503, "rejected"),
        (None, "POST", 401, "rejected"),
    ],
)
def test_the_fate_of_a_saved_query(
    bench: Bench, error: dict[str, Any] | None, method: str | None, status: int | None, state: LedgerState
) -> None:
    """A write is rejected where Presto refused it or never saw it; where it may have been carried out it is unknown."""
    if error:
        bench.presto.errors["INSERT"] = error
    if method:
        bench.presto.fail(method, status, times=3)
    assert bench.arrive(SAVE).outcome == "error"
    assert bench.states() == ["attempted", state]


def test_a_refusal_after_a_lost_answer_proves_nothing(bench: Bench) -> None:
    """A statement that was sent twice may have been carried out the first time, though refused the second."""
    bench.presto.fail("POST")
    bench.presto.errors["INSERT"] = REFUSED
    bench.arrive(SAVE)
    assert bench.states() == ["attempted", "unknown"]


def test_a_saved_query_that_nobody_could_take_is_rejected(tmp_path: Path) -> None:
    """Where nobody listens nothing was sent, however often it was tried."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        recorder = Recorder(tmp_path, "test")
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        clients = PrestoClients(url, Notebook(ENGINE, recorder, lambda _: None, lambda _: None))
        clients.arrive(SAVE, now()[1])
        clients.finish()
        recorder.close()
    (request,) = read_requests(tmp_path)
    assert (request.attempts, request.error) == (3, "connection refused")
    assert [entry.state for entry in read_ledger(tmp_path)] == ["attempted", "rejected"]


def test_the_table_is_there_before_arrivals_come(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of two users that create the table at once fails; it tries again, and a query works then."""
    monkeypatch.setattr(presto, "_LOOK_S", 0.2)
    race = {"errorName": "JDBC_ERROR", "errorCode": 0, "errorType": "EXTERNAL", "message": "relation exists"}
    bench.presto.errors["CREATE TABLE IF NOT EXISTS console.public.saved_queries"] = race
    threading.Timer(0.3, bench.presto.errors.clear).start()
    bench.clients.prepare()
    assert "SELECT count(*) FROM console.public.saved_queries" in bench.presto.statements
    assert bench.presto.statements.count(presto._CREATE) > 1


def test_a_presto_that_is_still_slow_gets_no_arrivals(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrivals that come faster than they are answered would pile up, so the load says what is slow instead."""
    monkeypatch.setattr(bench.clients, "_ready_deadline_s", 0.5)
    monkeypatch.setattr(presto, "_IN_TIME_S", 0.0)
    with pytest.raises(DeadlinePassed, match=r"count_ship_modes took \d"):
        bench.clients.prepare()


def test_a_presto_that_does_not_take_the_table_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load that cannot begin says what Presto answered."""
    monkeypatch.setattr(bench.clients, "_ready_deadline_s", 0.3)
    bench.presto.errors["CREATE"] = REFUSED
    with pytest.raises(DeadlinePassed, match=r"SYNTAX_ERROR \(1\): line 1:1: no"):
        bench.clients.prepare()


def test_the_rate_does_not_depend_on_presto(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Presto is frozen arrivals come as before, each on its due time; latency counts from there."""
    monkeypatch.undo()
    for after_s, act in ((0.5, bench.presto.running.clear), (1.5, bench.presto.running.set)):
        threading.Timer(after_s, act).start()
    begin = now()[1]
    pace(20, bench.clients.arrive, lambda: now()[1] - begin >= 2.0)
    bench.clients.finish()
    requests = read_requests(bench.folder)
    assert len(requests) == pytest.approx(40, abs=1)
    assert all(
        after.intended - before.intended == pytest.approx(0.05, abs=1e-6) for before, after in pairwise(requests)
    )
    assert max(request.latency_s for request in requests) == pytest.approx(1.0, abs=0.2)
    assert {request.outcome for request in requests} == {"ok"}
