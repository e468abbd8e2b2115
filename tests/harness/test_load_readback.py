"""What is read back of a ledger after a recovery."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fake_catalogue import FakeCatalogue, fake_catalogue
from fake_presto import GONE, fake_presto, presto_error

from gameday.records import LedgerEntry, ReadBack
from loadgen import readback
from loadgen.catalogue import create_body
from loadgen.readback import read_back_mds, read_back_presto

TABLES = "/v1/namespaces/load_x/tables"


def catalogue_with(catalogue: FakeCatalogue, *names: str) -> None:
    """Create tables that have one snapshot each, the number of which is that of its place."""
    for number, name in enumerate(names):
        catalogue.carry_out("POST", TABLES, create_body(name))
        catalogue.tables[f"{TABLES}/{name}"]["snapshots"].append({"snapshot-id": number})


def ledger(*names: str) -> list[LedgerEntry]:
    """Return the ledger of one write to each table."""
    return [LedgerEntry("mds", f"load_x.{name}", "7", "acknowledged", 0.0, 0.0) for name in names]


def found(read: list[ReadBack]) -> dict[str, tuple[list[str], bool]]:
    """Return for each place what was found there, and whether it could be read."""
    return {item.place: (item.items, item.error is None) for item in read}


def test_every_table_of_the_ledger_is_read_once() -> None:
    """Each place gives the snapshots that its table has now, also where it took several tries."""
    with fake_catalogue() as (catalogue, url):
        catalogue_with(catalogue, "a", "b")
        catalogue.fail("GET", 503)
        catalogue.fail("GET")
        read = read_back_mds(url, ledger("a", "b", "b"), deadline_s=10)
    assert found(read) == {"load_x.a": (["0"], True), "load_x.b": (["1"], True)}
    assert len(read) == 2


def test_a_table_that_is_gone_holds_nothing() -> None:
    """The catalogue's word that there is no such table is an answer: what was written there is lost."""
    with fake_catalogue() as (_, url):
        assert found(read_back_mds(url, ledger("gone"), deadline_s=10)) == {"load_x.gone": ([], True)}


def test_what_cannot_be_read_says_so() -> None:
    """A place that gives no answer until the deadline carries an error, and the others are read all the same."""
    with fake_catalogue() as (catalogue, url):
        catalogue_with(catalogue, "a")
        catalogue.fail("GET", 500, times=100)
        (read,) = read_back_mds(url, ledger("a"), deadline_s=0.6)
    assert read.items == []
    assert read.error is not None
    assert "500" in read.error


def test_a_frozen_catalogue_does_not_hold_up_the_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more tables than are read at once and no answers, each carries an error soon after the deadline."""
    monkeypatch.setattr(readback, "_TIMEOUT_S", 0.3)
    names = "abcdefghijklmnopqrst"
    with fake_catalogue() as (catalogue, url):
        catalogue.running.clear()
        begin = time.monotonic()
        read = read_back_mds(url, ledger(*names), deadline_s=0.5)
        # one attempt, a pause and another of the first four, and nothing of the others
        assert time.monotonic() - begin < 2.0
    assert found(read) == {f"load_x.{name}": ([], False) for name in names}


def test_an_empty_ledger_reads_nothing(tmp_path: Path) -> None:
    """Where nothing was written nothing is read, and nobody is asked."""
    assert read_back_mds(f"http://{tmp_path.name}.invalid", [], deadline_s=1) == []


def saved(*runs: str) -> list[LedgerEntry]:
    """Return the ledger of one saved query of each run."""
    return [LedgerEntry("presto", f"console.public.saved_queries/{run}", "x", "attempted", 0.0, 0.0) for run in runs]


def test_the_saved_queries_of_each_run_are_read() -> None:
    """Each run of the ledger gives its own queries, also where it took several tries."""
    with fake_presto() as (presto, url):
        presto.saved += [("b", "r1"), ("a", "r1"), ("c", "r2"), ("d", "r3")]
        presto.fail("POST", 503)
        presto.fail("GET")
        read = read_back_presto(url, saved("r1", "r2", "r1"), deadline_s=10, user="ann", password="secret")  # noqa: S106 - no secret
        assert {sent["Authorization"] for sent in presto.seen_headers} == {"Basic YW5uOnNlY3JldA=="}
    places = "console.public.saved_queries/r1", "console.public.saved_queries/r2"
    assert found(read) == {places[0]: (["a", "b"], True), places[1]: (["c"], True)}
    assert {item.engine for item in read} == {"presto"}


@pytest.mark.parametrize("what", ["Table console.public.saved_queries", "Schema public"])
def test_a_saved_queries_table_that_is_gone_holds_nothing(what: str) -> None:
    """Presto's word that there is no such table is an answer: what was saved is lost."""
    with fake_presto() as (presto, url):
        presto.errors["SELECT"] = presto_error("SYNTAX_ERROR", 1, "USER_ERROR", f"line 1:15: {what} does not exist")
        (read,) = read_back_presto(url, saved("r1"), deadline_s=10)
    assert (read.items, read.error) == ([], None)


def test_a_presto_that_cannot_read_says_so() -> None:
    """Any other error of Presto until the deadline is on record, with Presto's name for it."""
    with fake_presto() as (presto, url):
        presto.errors["SELECT"] = GONE
        (read,) = read_back_presto(url, saved("r1"), deadline_s=0.6)
    assert "NO_NODES_AVAILABLE (65549)" in str(read.error)


def test_a_read_back_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that Presto keeps queued is not followed beyond the deadline."""
    monkeypatch.setattr(readback, "_TIMEOUT_S", 0.5)
    with fake_presto() as (presto, url):
        monkeypatch.setattr(presto, "_advance", lambda name, token: presto._page(name, "QUEUED", token + 1))
        (read,) = read_back_presto(url, saved("r1"), deadline_s=0.5)
    assert "QUEUED" in str(read.error)
