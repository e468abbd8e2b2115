"""What starts Presto says when it is ready: not before it has started, and for a coordinator not before it answers."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import pytest
from fake_http import served
from fake_presto import GONE, FakePresto
from formation_values import rendered
from start_programs import PRESTO as SERVER
from start_programs import presto_started, start_program

from gameday.waiting import wait_until
from lakehouse.presto_formation import COORDINATOR, PRESTO, WORKER

pytestmark = pytest.mark.needs("presto")

STATEMENTS = ["SELECT 1", "SHOW TABLES FROM console.public"]


class Starting(FakePresto):
    """A Presto that answers while it is starting, too, and says so."""

    starting = True

    def respond(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Tell how far it is, or take a statement."""
        told = {"/v1/info": {"starting": self.starting, "coordinator": True}, "/v1/info/state": "ACTIVE"}
        return (200, json.dumps(told[path]).encode()) if path in told else super().respond(method, path, body)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the start program, which is no module of a package, and which looks often here."""
    module = start_program(SERVER)
    monkeypatch.setattr(module, "_LOOK_S", 0.02)
    return module


@pytest.fixture
def presto() -> Iterator[tuple[Starting, int]]:
    """Serve a Presto that is starting; returns it and its port."""
    service = Starting()
    with served(service) as url:
        yield service, int(url.rpartition(":")[2])


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Return the file that says that the server is ready."""
    return tmp_path / "ready"


def announced(program: ModuleType, port: int, mark: Path, server: int | None = None) -> threading.Thread:
    """Have it wait for the server and say that it is ready, beside the test."""
    arguments = (os.getppid() if server is None else server, port, STATEMENTS, mark)
    thread = threading.Thread(target=program.announce, args=arguments, daemon=True)
    thread.start()
    return thread


def test_a_server_that_is_starting_is_not_ready(program: ModuleType, presto: tuple[Starting, int], mark: Path) -> None:
    """It is asked nothing but how far it is."""
    service, port = presto
    thread = announced(program, port, mark)
    wait_until("ten looks", lambda: None if len(service.seen) > 20 else f"{len(service.seen)}", deadline_s=10)
    assert not mark.exists()
    assert not service.statements
    service.starting = False
    thread.join(10)
    assert mark.exists()


def test_a_coordinator_is_ready_once_it_has_answered_each_statement(
    program: ModuleType, presto: tuple[Starting, int], mark: Path
) -> None:
    """One after the other, each to its end, and again where one failed."""
    service, port = presto
    service.starting, service.errors = False, {"SHOW TABLES": GONE}
    thread = announced(program, port, mark)
    wait_until("a failure", lambda: None if len(service.statements) > 2 else f"{service.statements}", deadline_s=10)
    assert not mark.exists()
    service.errors = {}
    thread.join(10)
    assert mark.exists()
    assert service.statements[:2] == STATEMENTS
    assert set(service.statements[2:]) == {STATEMENTS[1]}


def test_a_coordinator_that_cannot_answer_is_ready_in_the_end(
    program: ModuleType, presto: tuple[Starting, int], mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no worker is there its clients are told so by itself, and nobody starts it again for that."""
    monkeypatch.setattr(program, "_WARM_UP_S", 0.3)
    service, port = presto
    service.starting, service.endless = False, {"SELECT 1"}
    announced(program, port, mark).join(10)
    assert mark.exists()


def test_nobody_waits_for_a_server_that_has_ended(program: ModuleType, mark: Path) -> None:
    """Its program ends with it, and says nothing."""
    thread = announced(program, 1, mark, server=0)
    thread.join(10)
    assert not thread.is_alive()
    assert not mark.exists()


def test_what_is_started_anew_is_not_ready_by_the_word_of_the_last(tmp_path: Path, mark: Path) -> None:
    """A container that is restarted finds the folder of its pod as it was."""
    mark.touch()
    said = presto_started(tmp_path, f"test -e {mark} && echo ready || echo starting", mark)
    assert said == "starting\n"


def test_workers_are_known_before_their_coordinator_is_ready() -> None:
    """It answers no query before it knows one, so a Service that leads only to who is ready would have both wait."""
    made = rendered(PRESTO)
    settings = made["ConfigMap", WORKER]["data"]["config.properties"].splitlines()
    (uri,) = (line.partition("=")[2] for line in settings if line.startswith("discovery.uri="))
    service = made["Service", urlsplit(uri).hostname]["spec"]
    assert service["publishNotReadyAddresses"] is True
    labels = made["Deployment", COORDINATOR]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert [port["port"] for port in service["ports"]] == [urlsplit(uri).port]


def test_a_coordinator_is_asked_something_of_each_catalog_of_its_clients() -> None:
    """The first query of a catalog costs most."""
    made = rendered(PRESTO)
    asked = made["ConfigMap", COORDINATOR]["data"]["warm-up.sql"].splitlines()
    assert [one for one in asked if "tpcds." in one]
    assert [one for one in asked if "console." in one]
    assert "warm-up.sql" not in made["ConfigMap", WORKER]["data"]
