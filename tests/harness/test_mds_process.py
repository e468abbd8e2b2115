"""MDS as an operator sees it: its limit, its readiness, its start and its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from mds_lab import DEADLINE_S, Database, Replica, running_database, running_replica, settings, start_mds
from sqlalchemy.exc import OperationalError

from gameday.waiting import wait_until
from lakehouse.environment import SettingsError
from lakehouse.mds.app import create_app
from lakehouse.mds.catalogue import MdsCatalog, migrate
from lakehouse.mds.errors import response_to
from lakehouse.mds.readiness import Readiness
from lakehouse.mds.settings import read_settings

TABLES = "/v1/namespaces/a/tables"


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """A database server for all tests of this file."""
    with running_database() as database:
        yield database


def wait_for_waiting(database: Database, name: str, number: int) -> None:
    """Wait until that many requests have reached the frozen database."""

    def look() -> str | None:
        seen = database.waiting(name)
        return None if seen >= number else f"{seen} requests wait"

    wait_until(f"{number} requests to wait", look, deadline_s=DEADLINE_S, every_s=0.02)


def load(replica: Replica) -> httpx.Response:
    """Send a request that needs the catalogue's tables."""
    return replica.get(f"{TABLES}/t")


@asynccontextmanager
async def app_client(environment: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the whole application, in this process."""
    settings = read_settings(environment)
    migrate(settings)
    catalogue = MdsCatalog(settings)
    app = create_app(settings, catalogue, Readiness(catalogue.engine))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://mds") as client,
    ):
        yield client


def test_what_is_beyond_the_limit_is_refused_at_once(database: Database, tmp_path: Path) -> None:
    """With two requests in flight a third is refused without waiting, health is not counted, and room comes back."""
    environment = settings(database.create("limit"), tmp_path, MDS_MAX_CONCURRENT_REQUESTS="2")

    async def scenario() -> None:
        async with app_client(environment) as client:
            with database.frozen("limit"):
                held = [asyncio.create_task(client.get(f"{TABLES}/t")) for _ in range(2)]
                await asyncio.to_thread(wait_for_waiting, database, "limit", 2)
                before = time.monotonic()
                refused = await client.get(f"{TABLES}/t")
                assert time.monotonic() - before < 1.0
                assert refused.status_code == 503
                assert refused.json()["error"]["type"] == "SlowDownException"
                assert refused.headers["Retry-After"] == "1"
                assert (await client.get("/readyz")).status_code == 200
                assert (await client.get("/livez")).status_code == 200
            assert [(await answer).status_code for answer in held] == [404, 404]
            assert (await client.get(f"{TABLES}/t")).status_code == 404

    asyncio.run(scenario())


def test_without_a_limit_nothing_is_refused(database: Database, tmp_path: Path) -> None:
    """A limit of 0 is none: twelve requests at once are all in flight, and all are answered."""
    environment = settings(database.create("unlimited"), tmp_path, MDS_MAX_CONCURRENT_REQUESTS="0")

    async def scenario() -> None:
        async with app_client(environment) as client:
            with database.frozen("unlimited"):
                held = [asyncio.create_task(client.get(f"{TABLES}/t")) for _ in range(12)]
                await asyncio.to_thread(wait_for_waiting, database, "unlimited", 12)
            assert {(await answer).status_code for answer in held} == {404}

    asyncio.run(scenario())


def test_ready_is_whether_the_database_answers(database: Database, tmp_path: Path) -> None:
    """Without its database a replica lives but is not ready, and says "try again" quickly; it recovers by itself."""
    environment = settings(database.create("ready"), tmp_path)
    with running_replica(environment, tmp_path / "log") as replica:
        database.stop()
        try:
            replica.wait_for("the replica to be unready", lambda answer: answer.status_code == 503)
            lost = replica.get(TABLES, timeout_s=5)
            assert (lost.status_code, lost.json()["error"]["type"]) == (503, "ServiceUnavailableException")
            assert replica.get("/livez").status_code == 200
        finally:
            database.start()
        replica.wait_for("the replica to be ready again", lambda answer: answer.status_code == 200)
        assert replica.get("/v1/namespaces").status_code == 200


def test_a_terminated_replica_drains_and_finishes_what_is_in_flight(database: Database, tmp_path: Path) -> None:
    """After SIGTERM it is unready, still serves what comes, answers what is in flight, and ends with 0."""
    environment = settings(database.create("drain"), tmp_path, MDS_DRAIN_SECONDS="1")
    with running_replica(environment, tmp_path / "log") as replica, ThreadPoolExecutor(1) as threads:
        with database.frozen("drain"):
            held = threads.submit(load, replica)
            wait_for_waiting(database, "drain", 1)
            replica.terminate()
            terminated = time.monotonic()
            replica.wait_for("the replica to be unready", lambda answer: answer.status_code == 503)
            accepted = replica.get("/v1/config")
            assert accepted.status_code == 200
            assert accepted.headers["Connection"] == "close"
            # the drain passes while the request is still held
            wait_until("the port to be closed", lambda: _still_open(replica), deadline_s=DEADLINE_S, every_s=0.05)
            assert time.monotonic() - terminated >= 1.0
        assert held.result(DEADLINE_S).status_code == 404
        assert replica.process.wait(DEADLINE_S) == 0


def _still_open(replica: Replica) -> str | None:
    try:
        replica.get("/livez", timeout_s=1)
    except httpx.ConnectError:
        return None
    return "open"


def test_replicas_that_start_together_migrate_once(database: Database, tmp_path: Path) -> None:
    """Three migrations at once all succeed, and so does one more on what is there."""
    started = read_settings(settings(database.create("migrate"), tmp_path))
    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(migrate, started) for _ in range(3)]:
            done.result(DEADLINE_S)
    migrate(started)
    with psycopg.connect(database.url("migrate")) as connection:
        found = connection.execute(b"SELECT count(*) FROM iceberg_tables").fetchone()
    assert found == (0,)


def test_only_a_lost_commit_is_unknown(database: Database, tmp_path: Path) -> None:
    """Before a COMMIT was sent, a lost database means "try again"; after it, "look first"."""
    environment = settings(database.create("unknown"), tmp_path)
    migrate(read_settings(environment))
    catalogue = MdsCatalog(read_settings(environment))
    lost = OperationalError("COMMIT", {}, Exception("gone"))
    try:
        catalogue.begin_request()
        catalogue.list_namespaces()
        assert response_to(lost, commit_sent=catalogue.commit_sent).status_code == 503
        catalogue.create_namespace("a")
        assert response_to(lost, commit_sent=catalogue.commit_sent).status_code == 500
        catalogue.begin_request()
        assert not catalogue.commit_sent
    finally:
        catalogue.close()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MDS_DATABASE_URI", "", "MDS_DATABASE_URI is not set"),
        ("MDS_DATABASE_URI", "mysql://a/b", "MDS_DATABASE_URI begins with mysql://"),
        ("MDS_WAREHOUSE", "/folder", "MDS_WAREHOUSE is '/folder'"),
        ("MDS_WAREHOUSE", "s3://bucket/path", "MDS_S3_ENDPOINT is not set"),
        ("MDS_PORT", "tcp://10.96.0.1:8181", "MDS_PORT is 'tcp://10.96.0.1:8181'"),
        ("MDS_MAX_CONCURRENT_REQUESTS", "-1", "MDS_MAX_CONCURRENT_REQUESTS is '-1'"),
        ("POD_NAME", " ", "POD_NAME is not set"),
    ],
)
def test_a_bad_setting_is_one_sentence(tmp_path: Path, name: str, value: str, said: str) -> None:
    """A setting that is missing or wrong is named."""
    environment = settings("postgresql+psycopg://mds@127.0.0.1/mds", tmp_path) | {name: value}
    with pytest.raises(SettingsError, match=r"^[^\n]+$") as raised:
        read_settings(environment)
    assert str(raised.value).startswith(said)


def test_a_bad_start_ends_with_64(tmp_path: Path) -> None:
    """Bad settings end the process with 64 and nothing but the sentence, without the password."""
    environment = settings("postgresql+psycopg//mds:secret@127.0.0.1/mds", tmp_path)
    assert start_mds(environment, tmp_path / "log").wait(DEADLINE_S) == 64
    said = (tmp_path / "log").read_text()
    assert said.startswith("mds: MDS_DATABASE_URI cannot be read")
    assert said.count("\n") == 1
    assert "secret" not in said
