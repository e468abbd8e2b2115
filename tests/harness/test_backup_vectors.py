"""Copies of a real bucket by the customer's machine: restored they are what is live, and what is wrong is named."""

from __future__ import annotations

import json
import time

import pytest
from backup_lab import BackupLab
from pyarrow.fs import S3FileSystem

from gameday.waiting import wait_until
from lakehouse.backups.backup import Verification
from lakehouse.backups.hour import set_hour
from lakehouse.backups.region_stores import BACKUP_STORE, OBJECT_STORE, RegionStores
from lakehouse.backups.vectors import VectorCopies

pytestmark = [pytest.mark.xdist_group("backups"), pytest.mark.needs("backup", "milvus")]

ODD = "files/odd name (é+=).bin"


@pytest.fixture(scope="module")
def live(backup_lab: BackupLab) -> S3FileSystem:
    """Return the object store, whose bucket `vectors` has a dozen objects."""
    backup_lab.vectors()
    files = RegionStores(backup_lab.region, backup_lab.engine).files(OBJECT_STORE)
    for number in range(11):
        write(files, f"files/insert_log/{number}", b"%d" % number * 10_000)
    write(files, ODD, b"odd")
    return files


@pytest.fixture(scope="module")
def kind(backup_lab: BackupLab, live: S3FileSystem) -> VectorCopies:
    """Return the customer's copies of that bucket, of which one was taken by itself."""
    assert live
    backup_lab.customer()
    made = VectorCopies(backup_lab.region, backup_lab.engine)
    backup_lab.await_backup(made)
    return made


def write(files: S3FileSystem, name: str, content: bytes, bucket: str = "vectors") -> None:
    """Write an object."""
    with files.open_output_stream(f"{bucket}/{name}") as stream:
        stream.write(content)


def verified(kind: VectorCopies, index: int = 0) -> Verification:
    """Verify one of the copies."""
    return kind.verify(kind.backups()[index], lambda _doing: None)


def test_a_copy_has_every_object(kind: VectorCopies) -> None:
    """All that was in the bucket is in it, byte by byte, whatever its name."""
    backup = kind.backups()[0]
    assert backup.problem is None
    assert backup.size_bytes == sum(len(b"%d" % number) * 10_000 for number in range(11)) + 3
    assert 0 <= backup.age_s(time.time()) < 120
    assert verified(kind) == Verification("12 objects with the list of the copy, 12 of them with the live bucket", ())


def test_a_later_copy_has_what_came_later(kind: VectorCopies, live: S3FileSystem) -> None:
    """What came after a copy is no fault of that copy, and is in the next one."""
    write(live, "files/later", b"later")
    assert verified(kind).problems == ()
    taken = kind.take()
    assert taken == kind.backups()[-1]
    done = kind.verify(taken, lambda _doing: None)
    live.delete_file("vectors/files/later")
    assert done == Verification("13 objects with the list of the copy, 13 of them with the live bucket", ())
    # what is no longer live is compared with the list alone
    assert verified(kind, -1) == Verification(
        "13 objects with the list of the copy, 12 of them with the live bucket", ()
    )


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (("truncate", "--size=-1"), "files/insert_log/3 has 9999 bytes and not 10000"),
        (("rm",), "files/insert_log/3 is missing"),
    ],
)
def test_an_object_that_is_not_whole_is_named(
    backup_lab: BackupLab, kind: VectorCopies, spoil: tuple[str, ...], problem: str
) -> None:
    """The list of the store says so, and so does the restore."""
    path = f"vector-copies/{kind.backups()[0].name}/vectors/files/insert_log/3"
    with backup_lab.spoilt(path, *spoil):
        assert kind.backups()[0].problem == problem
        assert problem in verified(kind).problems


def test_an_object_with_other_bytes_is_named(backup_lab: BackupLab, kind: VectorCopies) -> None:
    """One that is as long as it was is found when it is restored."""
    path = f"vector-copies/{kind.backups()[0].name}/vectors/files/insert_log/3"
    with backup_lab.spoilt(path, "sh", "-c", 'printf 4 | dd of="$0" bs=1 seek=5000 conv=notrunc'):
        assert kind.backups()[0].problem is None
        problems = verified(kind).problems
    assert "files/insert_log/3 has other bytes than were copied" in problems
    assert "files/insert_log/3 is not as it is live: 10000 bytes in the copy, 10000 live" in problems


def test_a_live_object_that_a_copy_forgot_is_named(backup_lab: BackupLab, kind: VectorCopies) -> None:
    """Also where the copy's own lists know nothing of it."""
    taken = kind.take()
    folder = f"vector-copies/{taken.name}"
    files = RegionStores(backup_lab.region, backup_lab.engine).files(BACKUP_STORE)
    sums = backup_lab.in_store("cat", f"{folder}/SHA256SUMS").splitlines()
    manifest = json.loads(backup_lab.in_store("cat", f"{folder}/manifest.json"))
    complete = json.loads(backup_lab.in_store("cat", f"{folder}/complete.json"))
    complete |= {"objects": complete["objects"] - 1, "bytes": complete["bytes"] - 3, "begun_wall": time.time() + 60}
    files.delete_file(f"{folder}/vectors/{ODD}")
    for name, content in {
        "SHA256SUMS": "\n".join(line for line in sums if ODD not in line),
        "manifest.json": json.dumps([item for item in manifest if item["Path"] != ODD]),
        "complete.json": json.dumps(complete),
    }.items():
        write(files, f"{taken.name}/{name}", content.encode(), "vector-copies")
    assert kind.backups()[-1].problem is None
    done = verified(kind, -1)
    backup_lab.in_store("rm", "-r", folder)
    assert done.problems == (f"{ODD} was live before the copy was begun, and is not in it",)


def test_a_copy_that_was_cut_off_is_named(backup_lab: BackupLab, kind: VectorCopies) -> None:
    """One that is not the newest cannot be under way."""
    kind.take()
    name = kind.backups()[0].name
    with backup_lab.spoilt(f"vector-copies/{name}/complete.json", "rm"):
        problem = kind.backups()[0].problem
        done = verified(kind)
    assert problem == "it was cut off: complete.json is missing"
    assert done.compared == "nothing"
    assert "complete.json cannot be read" in done.problems[0]


def test_a_changed_hour_is_followed(backup_lab: BackupLab, kind: VectorCopies) -> None:
    """Copies are taken as often as is declared now, and the newest four are kept."""
    name, before = f"{backup_lab.region.cluster}-customer-copy", {backup.name for backup in kind.backups()}
    set_hour(backup_lab.engine, name, 2)

    def look() -> str | None:
        new = {backup.name for backup in kind.backups()} - before
        return None if len(new) >= 4 else f"{len(new)} were taken"

    wait_until("four copies of two seconds each", look, deadline_s=60)
    set_hour(backup_lab.engine, name, 3600)
    kind.take()
    found = kind.backups()
    assert len(found) == 4
    assert [backup.problem for backup in found] == [None] * 4
    assert verified(kind, -1).problems == ()
