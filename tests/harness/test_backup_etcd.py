"""Snapshots of etcd: consistent with the bucket while writes go on, refused and named where they are not."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from etcd_backup_lab import EtcdBackupLab
from milvus_lab import MilvusLab

from gameday.errors import HarnessError
from lakehouse.backup import ages, store
from lakehouse.backup.contents import Contents
from lakehouse.backups import etcd
from lakehouse.backups.backup import Backup
from lakehouse.backups.etcd import compare_with_living

pytestmark = [pytest.mark.xdist_group("backup-etcd"), pytest.mark.needs("backup", "milvus")]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdBackupLab]:
    """Return an etcd and a store with a segment."""
    made = EtcdBackupLab(MilvusLab(tmp_path_factory.mktemp("etcd-backup")))
    try:
        made.begin()
        yield made
    finally:
        made.lab.end_all()


@pytest.fixture(scope="module")
def taken(lab: EtcdBackupLab) -> Backup:
    """Return a snapshot."""
    return lab.snapshots.take()


def test_a_snapshot_that_is_taken_while_writes_go_on_verifies(lab: EtcdBackupLab) -> None:
    """Segments come all the time; each key of the snapshot's revision and each object is compared."""
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            lab.segment(f"more-{number}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        backup = lab.snapshots.take()
    finally:
        ended.set()
        writer.join()
    done = lab.snapshots.verify(backup, lambda _: None)
    assert done.problems == ()
    assert "keys with the living etcd at revision" in done.compared
    manifest = json.loads(lab.stored(backup, "manifest.json").read_text())
    assert manifest["objects"]["files/insert_log/7/all/first"] == 500
    assert backup.problem is None
    assert manifest["begun_wall"] <= manifest["ended_wall"]


def test_a_snapshot_whose_references_are_not_all_there_is_refused(lab: EtcdBackupLab) -> None:
    """It names the object, and leaves nothing in the store."""
    lab.segment("lost")
    lab.object("lost").unlink()
    before = lab.snapshots.backups()
    try:
        with pytest.raises(HarnessError, match=r"exited with 1.*refers.*files/insert_log/7/all/lost"):
            lab.snapshots.take()
    finally:
        lab.forget("lost")
    assert lab.snapshots.backups() == before


def test_a_truncated_snapshot_is_named(lab: EtcdBackupLab, taken: Backup) -> None:
    """By its size, already in the listing; with other bytes of that size by its sum; on the disk by the store's."""
    file = lab.stored(taken, "snapshot.db")
    whole = file.read_bytes()
    try:
        lab.overwrite(taken, "snapshot.db", whole[: len(whole) // 2])
        (listed,) = (one for one in lab.snapshots.backups() if one.name == taken.name)
        assert "snapshot.db has" in (listed.problem or "")
        assert any("truncated" in one for one in lab.problems(taken))
        changed = bytes([*whole[:-40], *(byte ^ 1 for byte in whole[-40:])])
        lab.overwrite(taken, "snapshot.db", changed)
        assert any("other bytes" in one for one in lab.problems(taken))
        lab.overwrite(taken, "snapshot.db", whole)
        file.write_bytes(changed)
        assert any("snapshot.db" in one for one in lab.problems(taken))
    finally:
        lab.overwrite(taken, "snapshot.db", whole)
    assert lab.problems(taken) == ()


def test_a_referenced_object_that_is_gone_or_changed_is_named(lab: EtcdBackupLab, taken: Backup) -> None:
    """The bucket lost what the snapshot refers to."""
    path, moved = lab.object("first"), lab.lab.folder / "moved"
    path.rename(moved)
    try:
        assert lab.problems(taken) == ("files/insert_log/7/all/first is referred to, and is not in the bucket",)
        path.write_bytes(b"short")
        assert lab.problems(taken) == ("files/insert_log/7/all/first has 5 bytes in the bucket and had 500",)
    finally:
        moved.rename(path)


def test_a_snapshot_of_other_keys_is_named(lab: EtcdBackupLab, taken: Backup) -> None:
    """A manifest that says another revision: what is restored is not what etcd held."""
    file = lab.stored(taken, "manifest.json")
    said = file.read_text()
    manifest = json.loads(said)
    try:
        other = {**manifest, "revision": manifest["revision"] - 1}
        lab.overwrite(taken, "manifest.json", json.dumps(other).encode())
        assert any("are not the" in one for one in lab.problems(taken))
    finally:
        lab.overwrite(taken, "manifest.json", said.encode())


def test_one_without_a_manifest_is_none(lab: EtcdBackupLab, taken: Backup, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was cut off: it is listed with its problem, once it can not be under way any more, and cannot be verified."""
    file = lab.stored(taken, "manifest.json")
    said = file.read_text()
    file.unlink()
    try:
        assert taken.name not in [one.name for one in lab.snapshots.backups()]
        monkeypatch.setattr(etcd, "_UNDER_WAY_S", 0.0)
        (listed,) = (one for one in lab.snapshots.backups() if one.name == taken.name)
        assert listed.problem == "it is not complete: manifest.json is missing"
        assert "does not say what is in it" in lab.problems(taken)[0]
    finally:
        file.write_text(said)


def test_what_etcd_no_longer_has_is_compared_with_the_digest(lab: EtcdBackupLab) -> None:
    """The revision is compacted meanwhile, and the last change may be a key's end, which is kept; what is left is."""
    lab.put("passing", "by")
    assert lab.ran("etcdctl", "del", "passing") == 0
    manifest = json.loads(lab.stored(lab.snapshots.take(), "manifest.json").read_text())
    assert lab.ran("etcdctl", "compact", "--physical", str(manifest["revision"])) == 0
    backup = lab.snapshots.take()
    assert json.loads(lab.stored(backup, "manifest.json").read_text())["revision"] == manifest["revision"]
    lab.put("by-dev/later", "1")
    assert lab.ran("etcdctl", "compact", "--physical", str(manifest["revision"] + 1)) == 0
    done = lab.snapshots.verify(backup, lambda _: None)
    assert done.problems == ()
    assert "compacted" in done.compared
    assert f"{manifest['keys']} keys that the living etcd has not changed since" in done.compared


def test_keys_that_outlive_a_compaction_are_compared(lab: EtcdBackupLab) -> None:
    """With the same last revision on both sides, so that one changed since, or restored, is no difference."""
    lab.put("kept", "one")
    lab.put("changed", "one")
    answer = lab.all_keys()
    then, revision = Contents.of_answer(answer), json.loads(answer)["header"]["revision"]
    assert compare_with_living(lab.in_pod, then, revision) == (len(then.keys), "keys with the living etcd", [])
    lab.put("changed", "two")
    assert lab.ran("etcdctl", "compact", "--physical", str(revision + 1)) == 0
    count, which, differing = compare_with_living(lab.in_pod, then, revision)
    assert (count, differing) == (len(then.keys) - 1, [])
    assert "compacted" in which
    damaged = Contents({**then.keys, "kept": (b"other", then.keys["kept"][1])})
    _, _, differing = compare_with_living(lab.in_pod, damaged, revision)
    assert differing == ["the key kept has another value or revision"]
    assert compare_with_living(lab.in_pod, Contents({}), revision)[0] == 0


def test_ages_are_those_of_what_is_complete(
    lab: EtcdBackupLab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A kind without a backup has 0; pgBackRest's and Velero's count when they say that they are complete.

    One of Velero's that lacks what was deployed does not, nor one whose listing is cut short or missing.
    """
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    for name, value in lab.environment.items():
        monkeypatch.setenv(name, value)
    newest = lab.snapshots.take()
    assert ages.newest("store:", "etcd", {}, set()) == ages.Newest(newest.taken_wall, newest.size_bytes)
    assert (
        ages.newest("store:", "vectors", {}, set()) == ages.newest("store:", "velero-mds", {}, set()) == ages.Newest()
    )
    wanted = {"v1/Secret": ["lakehouse/mds"]}
    file, whole = tmp_path / "any", gzip.compress(json.dumps(wanted).encode())
    for phase, name, listing in (
        ("Completed", "formation-mds-1", whole),
        ("PartiallyFailed", "formation-mds-2", whole),
        ("Completed", "formation-presto-3", whole),
        ("Completed", "formation-mds-4", gzip.compress(b"{}")),
        ("Completed", "formation-mds-5", whole[:-9]),
        ("Completed", "formation-mds-6", None),
    ):
        if listing is not None:
            file.write_bytes(listing)
            store.put(file, f"store:backups/velero/backups/{name}/{name}-resource-list.json.gz")
        status = {"phase": phase, "startTimestamp": f"2026-11-25T14:00:0{name[-1]}Z"}
        file.write_text(json.dumps({"status": status}))
        store.put(file, f"store:backups/velero/backups/{name}/velero-backup.json")
    first, fourth = (datetime(2026, 11, 25, 14, 0, second, tzinfo=UTC).timestamp() for second in (1, 4))
    refused: set[str] = set()
    assert ages.newest("store:", "velero-mds", wanted, refused).wall == first
    assert refused == {f"formation-mds-{number}" for number in (2, 4, 6)}
    assert ages.newest("store:", "velero-mds", {}, refused).wall == first
    assert ages.newest("store:", "velero-mds", {}, set()).wall == fourth
    store.put(file, "store:backups/postgres/backup/lakehouse/20261125-140000F/backup.manifest.copy")
    assert ages.newest("store:", "postgres", {}, set()) == ages.Newest()
    store.put(file, "store:backups/postgres/backup/lakehouse/20261125-140000F/backup.manifest")
    assert ages.newest("store:", "postgres", {}, set()).size == 2 * file.stat().st_size
    page = ages.Ages("store:", json.loads(lab.environment["AGES_KINDS"]), {})
    assert ages.NEWEST + "{" not in page.metrics()
    page.look()
    assert f'{ages.NEWEST}{{kind="vectors",formation="milvus"}} 0.000' in page.metrics()
    assert f'{ages.EVERY}{{kind="etcd",formation="milvus"}} 60.000' in page.metrics()


def test_only_the_newest_are_kept(lab: EtcdBackupLab) -> None:
    """As many as the settings say, and nothing that was cut off before."""
    cut_off = lab.lab.folder / "store" / "backups" / "etcd" / "20200101T000000Z" / "snapshot.db"
    cut_off.parent.mkdir(parents=True)
    cut_off.write_bytes(b"half")
    newest = [lab.snapshots.take() for _ in range(3)][-1]
    names = [one.name for one in lab.snapshots.backups()]
    assert len(names) == 2
    assert names[-1] == newest.name


def test_the_store_is_looked_at_as_often_as_the_hour_asks_for() -> None:
    """Sixty times in the shortest interval, and not more often than every ten seconds."""
    for shortest_s, every_s in ((3600, 60), (1200, 20), (600, 10), (120, 10)):
        kinds = {"etcd": {"formation": "milvus", "every_s": 3600.0}, "vectors": {"every_s": float(shortest_s)}}
        assert ages.Ages("store:", kinds, {}).look_every_s == every_s
