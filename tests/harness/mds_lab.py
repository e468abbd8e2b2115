"""A database and replicas of MDS on loopback, for tests: real Postgres, real processes, no cluster."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psycopg
import pytest

from gameday.paths import PROJECT
from gameday.shell import free_port
from gameday.waiting import wait_until
from lakehouse.mds.catalogue import migrate
from lakehouse.mds.settings import read_settings

DEADLINE_S = 20.0


def program(name: str) -> str:
    """Return the path of a program that a test needs; the test fails, and says so, where it is missing."""
    places = [*sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True), "/usr/sbin"]
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        pytest.fail(f"{name} is not installed, and this test needs it: on Debian `make setup` installs it")
    return found


class Database:
    """One Postgres with its data in a folder of its own; Postgres refuses root, so it runs as its own user then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as_user = [program("setpriv"), "--reuid=postgres", "--regid=postgres", "--init-groups"]
        self._call("initdb", "--pgdata", str(folder / "data"), "--username=mds", "--auth=trust", "--no-sync")

    def _call(self, name: str, *arguments: str) -> None:
        command = [*self._as_user, program(name), *arguments]
        with (self._folder / "calls.log").open("ab") as log:
            subprocess.run(command, cwd=self._folder, check=True, timeout=60, stdout=log, stderr=log)

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-h 127.0.0.1 -p {self._port} -k {self._folder} -F"
        log = str(self._folder / "log")
        self._call("pg_ctl", "--pgdata", str(self._folder / "data"), "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        """Stop it at once, with its connections."""
        self._call("pg_ctl", "--pgdata", str(self._folder / "data"), "-m", "immediate", "-w", "stop")

    def url(self, name: str) -> str:
        """Return the address of one of its databases, as Postgres' own tools have it."""
        return f"postgresql://mds@127.0.0.1:{self._port}/{name}"

    def create(self, name: str) -> str:
        """Create an empty database and return its address as MDS has it."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name).replace("postgresql://", "postgresql+psycopg://")

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Hold all requests that read or write tables of a catalogue, until the end of the block."""
        with psycopg.connect(self.url(name)) as connection:
            connection.execute("LOCK TABLE iceberg_tables IN ACCESS EXCLUSIVE MODE")
            yield
            connection.rollback()

    def waiting(self, name: str) -> int:
        """Return how many statements wait for a lock in a database."""
        query = b"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        with psycopg.connect(self.url(name)) as connection:
            row = connection.execute(query).fetchone()
        return int(row[0]) if row else 0


@contextmanager
def running_database() -> Iterator[Database]:
    """A database that runs for the time of the block."""
    # not in pytest's own folder, which only its owner may enter
    folder = Path(tempfile.mkdtemp(prefix="mds-postgres-"))
    try:
        database = Database(folder)
        database.start()
        try:
            yield database
        finally:
            with suppress(subprocess.CalledProcessError):
                database.stop()
    finally:
        shutil.rmtree(folder)


def settings(database_uri: str, folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a replica that keeps its files in `folder`."""
    return {
        "MDS_DATABASE_URI": database_uri,
        "MDS_WAREHOUSE": f"file://{folder}",
        "MDS_PORT": str(free_port()),
        "MDS_DRAIN_SECONDS": "0",
        "POD_NAME": "mds-0",
        **more,
    }


def start_mds(environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start `python -m lakehouse.mds`; what it says goes to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "lakehouse.mds"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), **environment},
            stdout=output,
            stderr=output,
        )


class Replica:
    """One serving process of MDS."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.url = f"http://127.0.0.1:{environment['MDS_PORT']}"
        self.log = log
        self.process = start_mds(environment, log)

    def get(self, path: str, timeout_s: float = 15.0) -> httpx.Response:
        """Send one request."""
        return httpx.get(self.url + path, timeout=timeout_s, trust_env=False)

    def wait_for(self, awaited: str, holds: Callable[[httpx.Response], bool], path: str = "/readyz") -> None:
        """Wait until the answer to a path is as wanted."""

        def look() -> str | None:
            try:
                answer = self.get(path)
            except httpx.TransportError as error:
                return f"{error!r}; log: {self.log.read_text()[-500:]}"
            return None if holds(answer) else f"{answer.status_code} {answer.text}"

        wait_until(awaited, look, deadline_s=DEADLINE_S, every_s=0.05)

    def terminate(self) -> None:
        """Ask it to end, as Kubernetes does."""
        self.process.send_signal(signal.SIGTERM)


@contextmanager
def running_replica(environment: dict[str, str], log: Path) -> Iterator[Replica]:
    """A replica that is ready, for the time of the block; its tables are made first."""
    migrate(read_settings(environment))
    replica = Replica(environment, log)
    try:
        replica.wait_for("the replica to be ready", lambda answer: answer.status_code == 200)
        yield replica
    finally:
        replica.process.kill()
        replica.process.wait(DEADLINE_S)
