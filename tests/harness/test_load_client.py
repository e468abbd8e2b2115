"""The standard retries of a catalogue's clients: what is sent again, when, and what is written down of it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from fake_catalogue import FakeCatalogue, fake_catalogue

from gameday.errors import UsageError
from loadgen.client import ICEBERG, Attempt, Client

NAMESPACES = "/v1/namespaces"
NOW = {"Retry-After": "0"}
WAITED: list[float] = []


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeCatalogue, Client]]:
    """Yield a catalogue and a client of it whose waits are noted and not waited."""
    monkeypatch.setattr("gevent.sleep", WAITED.append)
    WAITED.clear()
    with fake_catalogue() as (catalogue, url):
        client = Client(url, timeout_s=0.3)
        yield catalogue, client
        client.close()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_read_is_sent_again_after_what_may_pass(served: tuple[FakeCatalogue, Client], status: int) -> None:
    """A GET that failed with a passing status is sent again, and the failed attempt stays on record."""
    catalogue, client = served
    catalogue.fail("GET", status)
    answer = client.request("GET", NAMESPACES)
    assert (answer.last.ok, answer.attempts, answer.errors) == (True, 2, [f"HTTP {status}"])


@pytest.mark.parametrize(("status", "headers", "attempts"), [(429, {}, 2), (503, NOW, 2), (503, {}, 1), (502, {}, 1)])
def test_a_commit_is_sent_again_only_where_it_was_refused(
    served: tuple[FakeCatalogue, Client], status: int, headers: dict[str, str], attempts: int
) -> None:
    """A POST is sent again after 429 and after a 503 that names a time, never after what may have been carried out."""
    catalogue, client = served
    catalogue.fail("POST", status, headers=headers)
    assert client.request("POST", NAMESPACES, {"x": 1}).attempts == attempts
    assert len(catalogue.seen) == attempts


def test_retries_end_after_five_and_wait_twice_as_long_each_time(served: tuple[FakeCatalogue, Client]) -> None:
    """There are five retries, after about 1, 2, 4, 8 and 16 seconds, with at most a tenth more."""
    catalogue, client = served
    catalogue.fail("GET", 503, times=9)
    answer = client.request("GET", NAMESPACES)
    assert (answer.attempts, answer.last.status, len(answer.errors)) == (6, 503, 6)
    assert all(base <= waited <= 1.1 * base for base, waited in zip([1, 2, 4, 8, 16], WAITED, strict=True))


def test_a_server_may_say_how_long_to_wait(served: tuple[FakeCatalogue, Client]) -> None:
    """Retry-After takes the place of the growing waits."""
    catalogue, client = served
    catalogue.fail("GET", 503, times=3, headers={"Retry-After": "7"})
    client.request("GET", NAMESPACES)
    assert WAITED == [7, 7, 7]


def test_each_lost_connection_is_an_attempt(served: tuple[FakeCatalogue, Client]) -> None:
    """A GET whose connection is lost is sent again after a wait, each time on record; nothing repeats it unseen."""
    catalogue, client = served
    catalogue.fail("GET", times=2)
    answer = client.request("GET", NAMESPACES)
    assert (answer.last.ok, answer.attempts, len(answer.errors), len(catalogue.seen)) == (True, 3, 2, 3)
    assert len(WAITED) == 2


def test_a_commit_whose_connection_is_lost_is_not_sent_again(served: tuple[FakeCatalogue, Client]) -> None:
    """A POST without an answer may have been carried out: one attempt, and its fate is unknown."""
    catalogue, client = served
    catalogue.fail("POST")
    answer = client.request("POST", NAMESPACES, {"x": 1})
    assert (answer.attempts, answer.fate_unknown, len(catalogue.seen)) == (1, True, 1)


def test_an_attempt_ends_after_its_time(served: tuple[FakeCatalogue, Client]) -> None:
    """A server that says nothing costs one attempt of the declared time, and no retry."""
    catalogue, client = served
    catalogue.running.clear()
    begin = time.monotonic()
    answer = client.request("GET", NAMESPACES)
    assert (answer.attempts, answer.errors, answer.fate_unknown) == (1, ["timed out"], True)
    assert 0.3 <= time.monotonic() - begin < 0.6


def test_a_refused_connection_carried_nothing_out() -> None:
    """Where nobody listens nothing was sent: no retry, and the fate is known."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        answer = Client(f"http://127.0.0.1:{free.getsockname()[1]}").request("POST", NAMESPACES, {"x": 1})
    assert (answer.attempts, answer.errors, answer.fate_unknown) == (1, ["connection refused"], False)


def test_the_answering_replica_is_known(served: tuple[FakeCatalogue, Client]) -> None:
    """The replica is what the answer's header names."""
    assert served[1].request("GET", NAMESPACES).last.replica == "mds-1"


def test_only_http_addresses_are_taken() -> None:
    """An address that is no http URL is refused in a sentence."""
    with pytest.raises(UsageError, match="ftp"):
        Client("ftp://somewhere")


def test_an_attempt_knows_whether_it_may_have_been_carried_out() -> None:
    """What the server refused for the request's own sake was not carried out."""
    assert not ICEBERG.fate_unknown(Attempt(409))
    assert ICEBERG.fate_unknown(Attempt(502))
