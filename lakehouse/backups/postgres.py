"""Base backups of the managed database with its archived log: listed, taken, restored, and compared row by row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import psycopg

from gameday.engine import Container, Engine
from gameday.errors import DeadlinePassed, HarnessError
from gameday.regions import Region
from gameday.shell import run
from gameday.waiting import wait_until
from lakehouse.backups.backup import Backup, Verification
from lakehouse.backups.postgres_repository import Repository
from lakehouse.backups.postgres_rows import compared, connections, point_of
from lakehouse.backups.region_stores import BACKUP_STORE, RegionStores
from lakehouse.hour import declared
from lakehouse.provider import BACKUP_USER, POSTGRES_BIN, POSTGRES_HOME, pgbackrest_settings

SERVICE = "postgres"

_TAKE_DEADLINE_S = 300.0
_RESTORE_DEADLINE_S = 300.0
_ARCHIVE_DEADLINE_S = 60.0
_CONNECT_S = 5
_TAIL = 6
_AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")
# Also of a line of the log that was left by a restore to a moment before.
_NEWEST = ("--type=default", "--target-timeline=current")
# Of a scratch database nothing has to survive, and nobody may take its log for the living one's.
_SCRATCH = "-c listen_addresses=* -c unix_socket_directories=/tmp -c archive_mode=off -c fsync=off -c hot_standby=off"
_DATA = f"{POSTGRES_HOME}/mds"
_LOG = "/tmp/scratch.log"  # noqa: S108 - in the container
# Without connections before it is where it shall be; `pg_ctl` alone does not wait for that.
_START = f"""\
PATH=$PATH:{POSTGRES_BIN}
pg_ctl start --pgdata={_DATA} --log={_LOG} --options="{_SCRATCH}" || exit
until pg_isready --quiet --host=/tmp; do
    pg_ctl status --pgdata={_DATA} || exit
    sleep 0.1
done
"""
_RUN_AND_TELL = '"$@" > /tmp/told 2>&1 || { code=$?; tail -n 40 /tmp/told; echo "it exited with $code"; }'


class CannotRestoreError(Exception):
    """A backup could not be restored; says why, in the words of what restores it."""


@dataclass(frozen=True)
class PostgresBackups:
    """The kind of backup that the SRE takes of the managed database."""

    region: Region
    engine: Engine
    name: str = field(default="postgres", init=False)
    actor: str = field(default="sre", init=False)

    @property
    def every_s(self) -> float:
        """The declared hour, in seconds."""
        return declared(self.region)

    def backups(self) -> Sequence[Backup]:
        """Return all base backups, oldest first; with the archived log each restores to any moment after it."""
        return self._repository.backups()

    def take(self) -> Backup:
        """Take a base backup now, after one that is under way; raises HarnessError where that fails."""
        database = self._stores.running(SERVICE)
        command = ("exec", database.name, "bash", "/usr/local/bin/base-backups.sh", "now")
        self.engine.call(*command, deadline_s=_TAKE_DEADLINE_S)
        found = self.backups()
        if not found:
            raise HarnessError("pgBackRest says that it took a backup, and there is none in the store")
        return found[-1]

    def verify(self, backup: Backup, say: Callable[[str], None]) -> Verification:
        """Restore a base backup and the log after it into a scratch container, and compare with the live database.

        Both are read at the same restore point, which is written for this. Where no log leads from the backup to a
        live database, all that is archived is restored, and every table and index of it is checked instead.
        """
        say(f"the files of {backup.name} in the store")
        wrong = self._repository.wrong(backup.name)
        try:
            done = self._compare(backup, say) or self._check(backup, say)
        except CannotRestoreError as error:
            done = Verification("nothing", (f"{backup.name} cannot be restored: {error}",))
        return Verification(done.compared, (*wrong, *done.problems))

    def _compare(self, backup: Backup, say: Callable[[str], None]) -> Verification | None:
        database = self._stores.found(SERVICE)
        if database is None:
            return None
        with point_of(partial(self._connect, database)) as point:
            say(f"the log up to the restore point {point.name}, which is in segment {point.segment}")
            self._await_archived(database, point.segment)
            if not self._repository.leads_to(backup.name, point.segment):
                return None
            say(f"restore {backup.name} to that point")
            target = ("--type=name", f"--target={point.name}", "--target-action=promote")
            with self.restored(backup.name, target) as scratch:
                say("compare row by row")
                with connections(partial(self._connect, scratch)) as there:
                    result = compared(point.connections, there)
        return Verification(f"{result.rows} rows of {result.tables} tables", result.problems)

    def _check(self, backup: Backup, say: Callable[[str], None]) -> Verification:
        say(f"restore {backup.name} and all of its log that is archived: the living database is none that it leads to")
        with self.restored(backup.name, _NEWEST) as scratch:
            say("check every table and index")
            command = (f"{POSTGRES_BIN}/pg_amcheck", "--host=/tmp", "--all", "--install-missing", "--heapallindexed")
            told = self._told(scratch.name, *_AS_POSTGRES, *command)
        what = "every table and index with itself, as the living database is none that it leads to"
        return Verification(what, (f"pg_amcheck: {told}",) if told else ())

    @contextmanager
    def restored(self, label: str, target: Sequence[str]) -> Iterator[Container]:
        """Run a database restored from one backup to a target of pgBackRest's, and remove it again.

        Raises CannotRestoreError where pgBackRest or Postgres cannot, HarnessError where no container starts.
        """
        name = f"{self.region.cluster}-restore-{uuid4().hex[:8]}"
        (image,) = self.engine.call(
            "inspect", "--format", "{{.Config.Image}}", self._stores.running(BACKUP_STORE).name
        ).split()
        try:
            self.engine.run_container(
                name,
                image,
                ("sleep", "infinity"),
                network=self.region.network,
                labels=dict([self.region.label.split("=", 1)]),
                environment=pgbackrest_settings(self.region.cluster, self._stores.keys()),
                files={},
            )
            self._restore(name, label, target)
            (container,) = self.engine.inspect(name)
            yield container
        finally:
            self.engine.remove(name)

    def _restore(self, name: str, label: str, target: Sequence[str]) -> None:
        self.engine.call("exec", name, "install", "-d", "-o", "postgres", "-g", "postgres", "-m", "700", _DATA)
        restore = ("pgbackrest", "restore", f"--set={label}", *target, "--archive-mode=off", "--job-retry=0")
        if told := self._told(name, *_AS_POSTGRES, *restore):
            raise CannotRestoreError(told)
        if self._told(name, *_AS_POSTGRES, "sh", "-c", _START):
            log = self.engine.call("exec", name, "tail", "--lines=40", _LOG, check=False)
            raise CannotRestoreError(f"Postgres does not start: {_worst(log)}")

    def _told(self, name: str, *command: str) -> str:
        """Run a command in a container and return what it told where it failed; nothing where it did not."""
        within = ("exec", name, "sh", "-c", _RUN_AND_TELL, "sh", *command)
        return _worst(self.engine.call(*within, deadline_s=_RESTORE_DEADLINE_S))

    def _await_archived(self, database: Container, segment: str) -> None:
        with self._connect(database, "mds") as connection:

            def look() -> str | None:
                (row,) = connection.execute("SELECT last_archived_wal, failed_count FROM pg_stat_archiver").fetchall()
                archived, failed = row
                # by timeline and number: names are as long as each other, and a history file is none of them
                if archived and str(archived)[:24] >= segment:
                    return None
                return f"{archived or 'none'} is the newest, {failed} attempts failed"

            awaited = f"segment {segment} to be archived"
            try:
                wait_until(awaited, look, deadline_s=_ARCHIVE_DEADLINE_S, every_s=0.1)
            except DeadlinePassed as error:
                raise CannotRestoreError(f"the log is not archived up to now: {error}") from error

    def _connect(self, container: Container, database: str) -> psycopg.Connection:
        try:
            return psycopg.connect(
                host=container.address,
                dbname=database,
                user=BACKUP_USER,
                password=self.region.credentials()["backup"],
                connect_timeout=_CONNECT_S,
                autocommit=True,
                options="-c timezone=UTC",
            )
        except psycopg.OperationalError as error:
            raise HarnessError(f"{container.name} does not answer: {error}") from error

    @property
    def _stores(self) -> RegionStores:
        return RegionStores(self.region, self.engine)

    @property
    def _repository(self) -> Repository:
        return Repository(self._stores.files(BACKUP_STORE))


def restore_to(region: Region, engine: Engine, wall: float | None = None, deadline_s: float = 300.0) -> None:
    """Put the managed database back to a moment (seconds since the epoch), or to the newest that is archived.

    It is down meanwhile. What it has now is kept beside it, as `replaced`, until the next restore. The moment has to
    be before the last transaction that is archived. Raises HarnessError where it cannot be restored: it has what it
    had then; DeadlinePassed where it does not come up.
    """
    name = RegionStores(region, engine).name_of(SERVICE)
    target = "newest" if wall is None else datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
    query = (*_AS_POSTGRES, "psql", "--host=/tmp", "--tuples-only", "--no-align", "--command")
    # Postgres looks for a commit after the moment, and a database that nobody writes to has none. One that is damaged
    # need not answer.
    engine.call("exec", name, *query, "SELECT pg_current_xact_id()", "postgres", check=False)
    begun = time.time()
    engine.call("stop", "--time", "30", name, deadline_s=60)
    # not before it is down: what is asked for here happens at the next start, whoever starts it
    engine.put(name, "/etc/lakehouse/restore-to", f"{target}\n")
    engine.start(name)

    def look() -> str | None:
        (container,) = engine.inspect(name)
        if not container.running:
            said = _worst(_since(engine, name, begun))
            # with what it had
            engine.start(name)
            raise HarnessError(f"{name} cannot be restored to {target}: {said}")
        asked = engine.call("exec", name, *query, "SELECT pg_is_in_recovery()", "postgres", check=False).strip()
        return None if asked == "f" else "it is in recovery" if asked else "it does not answer"

    wait_until(f"{name} to be restored to {target}", look, deadline_s=deadline_s)
    told = _since(engine, name, begun)
    if "cannot be restored" in told:
        raise HarnessError(_worst(told))


def _since(engine: Engine, name: str, begun: float) -> str:
    """Return what a container said since a moment."""
    moment = datetime.fromtimestamp(begun, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # a program's standard error comes out as the engine's own
    said = run([engine.name, "logs", "--since", moment, name], environment=engine.environment)
    return said.stdout + said.stderr


def _worst(told: str) -> str:
    """Return the lines of an output that say what went wrong, in one; its end where none says so."""
    lines = [line.strip() for line in told.strip().splitlines()]
    worst = [line for line in lines if any(word in line for word in ("ERROR", "FATAL", "PANIC", "cannot be"))]
    return " | ".join((worst or lines)[-_TAIL:])
