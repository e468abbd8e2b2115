"""Base backups of a real database to a real store: restored they are what is live, and what is wrong is named."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread

import pytest
from backup_lab import BackupLab

from gameday.errors import HarnessError, UsageError
from gameday.waiting import wait_until
from lakehouse.backups.backup import Verification
from lakehouse.backups.hour import set_hour
from lakehouse.backups.postgres import PostgresBackups, restore_to
from lakehouse.backups.postgres_rows import compared, connections, point_of
from lakehouse.provider import CONSOLE

pytestmark = [pytest.mark.xdist_group("backups"), pytest.mark.needs("backup")]

FOLDER = "backups/postgres/backup/lakehouse"


@pytest.fixture(scope="module")
def kind(backup_lab: BackupLab) -> PostgresBackups:
    """Return the backups of a database with rows in both databases, of which one was taken at its start."""
    backup_lab.database()
    made = PostgresBackups(backup_lab.region, backup_lab.engine)
    backup_lab.await_backup(made)
    with backup_lab.connect() as mds, backup_lab.connect(CONSOLE) as console:
        mds.execute("CREATE TABLE tables (number serial PRIMARY KEY, name text)")
        mds.execute("INSERT INTO tables (name) SELECT 'table ' || i FROM generate_series(1, 100) AS i")
        console.execute("CREATE TABLE queries (number serial PRIMARY KEY, query text)")
        console.execute("INSERT INTO queries (query) VALUES ('SELECT 1'), ('SELECT 2')")
    return made


def container_of(lab: BackupLab) -> str:
    """Return the name of the database's container."""
    return f"{lab.region.cluster}-postgres"


def verified(kind: PostgresBackups, index: int = 0) -> Verification:
    """Verify one of the backups."""
    return kind.verify(kind.backups()[index], lambda _doing: None)


@contextmanager
def writing(lab: BackupLab) -> Iterator[None]:
    """Commit rows all the time, as clients do."""
    ended = Event()

    def write() -> None:
        with lab.connect() as connection:
            while not ended.wait(0.02):
                connection.execute("INSERT INTO tables (name) VALUES ('written meanwhile')")

    thread = Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_backup_and_the_log_after_it_hold_every_row(backup_lab: BackupLab, kind: PostgresBackups) -> None:
    """Rows that came after the base backup are restored too, while clients go on writing; nothing is left behind."""
    backup = kind.backups()[0]
    assert backup.problem is None
    assert backup.size_bytes > 1_000_000
    assert 0 <= backup.age_s(time.time()) < 120
    with writing(backup_lab):
        done = kind.verify(backup, lambda _doing: None)
    assert done.problems == ()
    assert done.compared.endswith(" rows of 2 tables")
    assert int(done.compared.split()[0]) >= 102
    assert not [item.name for item in backup_lab.region.services(backup_lab.engine) if "restore" in item.name]


def test_what_a_restore_to_too_early_a_point_lacks_is_counted(backup_lab: BackupLab, kind: PostgresBackups) -> None:
    """A changed row, a lost one, and a lost table are named with their tables."""
    (container,) = backup_lab.engine.inspect(container_of(backup_lab))
    connect = partial(kind._connect, container)
    with point_of(connect) as early:
        pass
    with backup_lab.connect() as mds, backup_lab.connect(CONSOLE) as console:
        mds.execute("UPDATE tables SET name = 'renamed' WHERE number = 7")
        console.execute("INSERT INTO queries (query) VALUES ('SELECT 3')")
        console.execute("CREATE TABLE later (number int)")
    target = ("--type=name", f"--target={early.name}", "--target-action=promote")
    with (
        point_of(connect) as late,
        kind.restored(kind.backups()[0].name, target) as scratch,
        connections(partial(kind._connect, scratch)) as restored,
    ):
        problems = compared(late.connections, restored).problems
    with backup_lab.connect(CONSOLE) as console:
        console.execute("DROP TABLE later")
    assert len(problems) == 3
    assert problems[0].startswith("mds.public.tables: ")
    assert problems[0].endswith(": 1 are missing or changed, 1 are not live")
    assert problems[1] == "console.public.later: the table is missing"
    assert problems[2] == (
        "console.public.queries: 2 rows are restored and 3 are live: 1 are missing or changed, 0 are not live"
    )


def test_a_truncated_file_is_named(backup_lab: BackupLab, kind: PostgresBackups) -> None:
    """The list of the store says so, and so does the restore."""
    name = kind.take().name
    with backup_lab.spoilt(f"{FOLDER}/{name}/bundle/1", "truncate", "--size=-100"):
        problem = kind.backups()[-1].problem
        done = verified(kind, -1)
    assert problem is not None
    assert problem.startswith(f"{name}/bundle/1 has ")
    assert done.problems[0] == problem
    assert done.problems[1].startswith(f"{name} cannot be restored: ERROR")
    assert kind.backups()[-1].problem is None


def test_a_file_with_other_bytes_cannot_be_restored(backup_lab: BackupLab, kind: PostgresBackups) -> None:
    """One that is as long as it was is found by the restore alone."""
    name = kind.backups()[0].name
    spoil = ("sh", "-c", 'printf wrong | dd of="$0" bs=1 seek=5000 conv=notrunc')
    with backup_lab.spoilt(f"{FOLDER}/{name}/bundle/1", *spoil):
        assert kind.backups()[0].problem is None
        (problem,) = verified(kind).problems
    assert problem.startswith(f"{name} cannot be restored: ERROR")


@pytest.mark.parametrize("file", ["bundle/1", "backup.manifest"])
def test_a_missing_file_is_named(backup_lab: BackupLab, kind: PostgresBackups, file: str) -> None:
    """Also the one that says which others there are, of which pgBackRest keeps a second."""
    name = kind.backups()[0].name
    second = f"{FOLDER}/{name}/backup.manifest.copy"
    with backup_lab.spoilt(f"{FOLDER}/{name}/{file}", "rm"):
        if file == "backup.manifest":
            assert kind.backups()[0].problem is None
            backup_lab.in_store("mv", second, "/second")
        problem = kind.backups()[0].problem
        if file == "backup.manifest":
            backup_lab.in_store("mv", "/second", second)
    assert problem is not None
    assert f"{name}/{file}" in problem


def test_a_lost_segment_of_the_log_is_named(backup_lab: BackupLab, kind: PostgresBackups) -> None:
    """A base backup is of no use without the log of the time in which it was taken."""
    info = backup_lab.in_store("grep", "--only-matching", 'backup-archive-start":"[0-9A-F]*', f"{FOLDER}/backup.info")
    segment = info.splitlines()[0].rpartition('"')[2]
    path = backup_lab.in_store("find", "backups/postgres/archive", "-name", f"{segment}-*").strip()
    with backup_lab.spoilt(path, "rm"):
        assert kind.backups()[0].problem == f"segment {segment} of the log is not archived"


def test_a_database_that_was_killed_goes_on_archiving(backup_lab: BackupLab, kind: PostgresBackups) -> None:
    """It comes up by itself with all rows where clients look for it, and those written then are in the archive."""
    name = container_of(backup_lab)
    (before,) = backup_lab.engine.inspect(name)
    backup_lab.engine.kill(name)
    after = backup_lab.database()
    assert (after.address, after.mac_address) == (before.address, before.mac_address)
    with backup_lab.connect() as connection:
        connection.execute("INSERT INTO tables (name) VALUES ('written after the kill')")
    assert verified(kind).problems == ()


def test_without_its_store_the_database_goes_on(backup_lab: BackupLab, kind: PostgresBackups) -> None:
    """It says that nothing is backed up, and what was written meanwhile is archived when the store is back."""
    store, database = f"{backup_lab.region.cluster}-backup-store", container_of(backup_lab)
    backup_lab.engine.kill(store)
    with pytest.raises(HarnessError, match="backup-store does not run"):
        kind.backups()
    with backup_lab.connect() as connection:
        connection.execute("INSERT INTO tables (name) VALUES ('written without a store')")
    with pytest.raises(HarnessError):
        backup_lab.engine.call("exec", database, "bash", "/usr/local/bin/base-backups.sh", "now")
    backup_lab.store()
    assert verified(kind).problems == ()


def test_a_changed_hour_is_followed(backup_lab: BackupLab, kind: PostgresBackups) -> None:
    """Backups are taken as often as is declared now, and no more of them are kept than is declared."""
    name, before = container_of(backup_lab), {backup.name for backup in kind.backups()}
    with pytest.raises(UsageError, match="too short"):
        set_hour(backup_lab.engine, name, 0.4)
    set_hour(backup_lab.engine, name, 120)
    with backup_lab.connect() as connection:
        wait_until(
            "the declared hour to be followed",
            lambda: None if connection.execute("SHOW archive_timeout").fetchall() == [("2s",)] else "not yet",
            deadline_s=20,
        )
    set_hour(backup_lab.engine, name, 2)

    def look() -> str | None:
        new = {backup.name for backup in kind.backups()} - before
        return None if len(new) >= 4 else f"{len(new)} were taken"

    wait_until("four backups of two seconds each", look, deadline_s=60)
    set_hour(backup_lab.engine, name, 3600)
    found = kind.backups()
    assert len(found) == 4
    assert [backup.problem for backup in found] == [None] * 4


def test_the_database_is_put_back_to_a_moment(backup_lab: BackupLab, kind: PostgresBackups) -> None:
    """What was destroyed after it is there again, and a backup is taken of what is there now."""
    with backup_lab.connect() as connection:
        connection.execute("INSERT INTO tables (name) VALUES ('before the moment')")
        (rows,) = connection.execute("SELECT count(*) FROM tables").fetchall()
        time.sleep(0.2)
        moment = time.time()
        time.sleep(0.2)
        connection.execute("DROP TABLE tables")
    left = kind.take().name
    restore_to(backup_lab.region, backup_lab.engine, moment)
    with backup_lab.connect() as connection:
        assert connection.execute("SELECT count(*) FROM tables").fetchall() == [rows]
    wait_until(
        "a backup of what is there now",
        lambda: None if kind.backups()[-1].name != left else "none yet",
        deadline_s=30,
    )
    assert verified(kind, -1).problems == ()
    (dropped,) = [index for index, backup in enumerate(kind.backups()) if backup.name == left]
    assert verified(kind, dropped).compared.startswith("every table and index with itself")
    with pytest.raises(HarnessError, match="unable to find backup set"):
        restore_to(backup_lab.region, backup_lab.engine, moment - 86400)
    with backup_lab.connect() as connection:
        assert connection.execute("SELECT count(*) FROM tables").fetchall() == [rows]


def test_a_database_made_anew_is_backed_up(backup_lab: BackupLab, kind: PostgresBackups) -> None:
    """It is another one with the same names: what is there of the lost one still restores, and is not compared."""
    lost = kind.backups()[-1].name
    backup_lab.engine.remove(container_of(backup_lab))
    backup_lab.database()
    wait_until(
        "a backup of the new database",
        lambda: None if kind.backups()[-1].name != lost else "none yet",
        deadline_s=60,
    )
    with backup_lab.connect() as connection:
        connection.execute("CREATE TABLE tables (number int)")
    assert verified(kind, -1) == Verification("0 rows of 1 tables", ())
    assert verified(kind, -2).problems == ()
    assert verified(kind, -2).compared.startswith("every table and index with itself")


def test_without_a_database_a_backup_is_checked_by_itself(backup_lab: BackupLab, kind: PostgresBackups) -> None:
    """When the database is lost its backups are restored as far as the archive goes."""
    backup_lab.engine.kill(container_of(backup_lab))
    done = verified(kind, -1)
    backup_lab.database()
    assert done.problems == ()
    assert done.compared.startswith("every table and index with itself")
