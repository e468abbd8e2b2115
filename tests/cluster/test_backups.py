"""Backups of the real lakehouse: each is verified, what is wrong with one is named, and runbooks restore from them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from lab import Lakehouse, catalogue_of, chaos
from pyarrow.fs import S3FileSystem
from pymilvus import MilvusClient

from gameday.errors import ExitCode
from gameday.regions import api_client
from gameday.timeline import read_timeline
from lakehouse import hour
from lakehouse.backup_formation import VELERO
from lakehouse.backups.backup_pod import BackupPod
from lakehouse.backups.kinds import KINDS, kinds_of
from lakehouse.backups.region_stores import BACKUP_STORE, RegionStores
from lakehouse.backups.velero_objects import listed
from lakehouse.deploy import endpoints, not_ready
from lakehouse.formation import FORMATION_LABEL, NAMESPACE
from lakehouse.mds_formation import MDS
from lakehouse.milvus_formation import MILVUS
from lakehouse.provider import BACKUP_BUCKET

pytestmark = pytest.mark.cluster


def verify(lakehouse: Lakehouse, *kinds: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Verify backups as a user does; return the exit code, and the results by kind."""
    ran = chaos("backup", "verify", "--region", lakehouse.region.name, "--json", *kinds)
    assert ran.code in (ExitCode.HELD, ExitCode.BROKEN), ran.said
    return ran.code, {one["kind"]: one for one in json.loads(ran.stdout)}


def take(lakehouse: Lakehouse, *kinds: str) -> None:
    """Take a backup of each of these kinds now."""
    ran = chaos("backup", "take", "--region", lakehouse.region.name, *kinds)
    assert ran.code == ExitCode.HELD, ran.said


@pytest.fixture(scope="module")
def stored(lakehouse: Lakehouse) -> S3FileSystem:
    """Return the store of backups as a file system."""
    return RegionStores(lakehouse.region, lakehouse.engine).files(BACKUP_STORE)


def test_every_kind_of_backup_is_verified(lakehouse: Lakehouse) -> None:
    """One of each is taken and restored beside the lakehouse; the status shows its age and its size."""
    catalogue_of(lakehouse).create_namespace_if_not_exists("kept")
    milvus = MilvusClient(endpoints(lakehouse.region, lakehouse.engine)["milvus"], timeout=20)
    milvus.create_collection("backed_up", dimension=8, metric_type="L2")
    milvus.insert("backed_up", [{"id": number, "vector": [float(number)] * 8} for number in range(10)])
    milvus.flush("backed_up")
    take(lakehouse)
    milvus.drop_collection("backed_up")
    code, results = verify(lakehouse)
    assert {one["kind"]: one["problems"] for one in results.values()} == {kind: [] for kind in KINDS}
    assert code == ExitCode.HELD
    assert not any(one["compared"].startswith(("0 ", "nothing")) for one in results.values()), results
    shown = json.loads(chaos("backup", "status", "--region", lakehouse.region.name, "--json").stdout)
    assert {one["kind"] for one in shown} == set(KINDS)
    for one in shown:
        assert one["problems"] == []
        assert one["backups"][-1]["size_bytes"] > 0
        assert 0 <= one["backups"][-1]["age_s"] < 300
    assert not [
        item.metadata.name for item in _core(lakehouse).list_namespace().items if "verify" in item.metadata.name
    ]


def test_all_volumes_of_a_formation_are_backed_up_at_once(lakehouse: Lakehouse) -> None:
    """By one worker of Velero, which several crashed: it asks for all volumes before the first is done."""
    take(lakehouse, "velero-milvus")
    newest = _newest(lakehouse, "velero-milvus")
    volumes = [
        one
        for one in listed(api_client(lakehouse.region.kubeconfig), "podvolumebackups")
        if one["metadata"]["labels"]["velero.io/backup-name"] == newest
    ]
    assert len(volumes) == MILVUS.parts["milvus-etcd"] + MILVUS.parts["milvus-kafka"]
    asked = [datetime.fromisoformat(one["metadata"]["creationTimestamp"]) for one in volumes]
    assert max(asked) < min(datetime.fromisoformat(one["status"]["completionTimestamp"]) for one in volumes)
    (server,) = (
        client.AppsV1Api(api_client(lakehouse.region.kubeconfig))
        .read_namespaced_deployment(VELERO, NAMESPACE)
        .spec.template.spec.containers
    )
    assert not [argument for argument in server.command if "worker-count" in argument]


def test_a_truncated_backup_is_named(lakehouse: Lakehouse, stored: S3FileSystem) -> None:
    """Of an archive of Velero only the first half is left: it is not restored, and named."""
    take(lakehouse, "velero-mds")
    name = _newest(lakehouse, "velero-mds")
    path = f"{BACKUP_BUCKET}/{VELERO}/backups/{name}/{name}.tar.gz"
    with _content_of(stored, path) as content:
        _write(stored, path, content[: len(content) // 2])
        code, results = verify(lakehouse, "velero-mds", "velero-spark")
    assert code == ExitCode.BROKEN
    assert results["velero-mds"]["problems"] == [f"{name}.tar.gz is cut short or damaged"]
    assert results["velero-spark"]["problems"] == []


def test_a_backup_that_misses_a_secret_is_named(lakehouse: Lakehouse) -> None:
    """It was taken while the Secret was not there, and is no good whether or not it is there now."""
    core = _core(lakehouse)
    secret = core.read_namespaced_secret(MDS.name, NAMESPACE)
    before = _newest_told(lakehouse, MDS.name)
    core.delete_namespaced_secret(MDS.name, NAMESPACE)
    try:
        ran = chaos("backup", "take", "--region", lakehouse.region.name, "velero-mds")
        assert ran.code == ExitCode.HARNESS_ERROR, ran.said
        assert f"of no use: Secret {MDS.name} is not in it" in ran.stderr
        code, results = verify(lakehouse, "velero-mds")
    finally:
        secret.metadata.resource_version = secret.metadata.uid = None
        core.create_namespaced_secret(NAMESPACE, secret)
    assert code == ExitCode.BROKEN
    assert results["velero-mds"]["problems"] == [f"Secret {MDS.name} is not in it"]
    assert verify(lakehouse, "velero-mds")[0] == ExitCode.BROKEN
    assert _newest_told(lakehouse, MDS.name) == before
    take(lakehouse, "velero-mds")
    assert verify(lakehouse, "velero-mds")[0] == ExitCode.HELD
    assert _newest_told(lakehouse, MDS.name) > before


def _newest_told(lakehouse: Lakehouse, formation: str) -> float:
    """Return the moment of the newest complete backup of a formation, as who tells Prometheus of it sees it."""
    program = (
        "import json, os, sys; from lakehouse.backup import ages; kind, name = sys.argv[1:];"
        "wanted = json.loads(os.environ['AGES_OBJECTS'])[name];"
        "print(ages.newest(os.environ['AGES_STORE'], kind, wanted, set()).wall)"
    )
    pod = BackupPod(lakehouse.region)
    return float(pod.run(("python3", "-c", program, f"{VELERO}-{formation}", formation)))


def test_a_backup_older_than_its_schedule_allows_is_named(lakehouse: Lakehouse) -> None:
    """The hour is declared shorter than the newest backup is old; nobody takes another by that hour."""
    before = hour.declared(lakehouse.region)
    kind = next(one for one in kinds_of(lakehouse.region, lakehouse.engine) if one.name == "velero-presto")
    age_s = kind.backups()[-1].age_s(time.time())
    try:
        # only said, so that no schedule follows it
        hour.declare(lakehouse.region, 30)
        if age_s < 50:
            time.sleep(50 - age_s)
        code, results = verify(lakehouse, "velero-presto")
    finally:
        hour.declare(lakehouse.region, before)
    assert code == ExitCode.BROKEN
    (problem,) = results["velero-presto"]["problems"]
    assert problem.startswith("the newest backup is ")
    assert problem.endswith("and the schedule allows 45 s")


def test_a_deleted_formation_is_restored_by_its_runbook(lakehouse: Lakehouse, tmp_path: Path) -> None:
    """All objects of MDS are deleted; the runbook brings them back, and its steps are on a timeline, all the SRE's."""
    take(lakehouse, "velero-mds")
    catalogue_of(lakehouse).create_namespace_if_not_exists("before")
    _delete_all(lakehouse, MDS.name)
    arguments = ("--region", lakehouse.region.name, "--set", f"formation={MDS.name}")
    looked = chaos("runbook", "run", "restore-formation", *arguments, "--dry-run")
    assert looked.code == ExitCode.HELD, looked.said
    assert "choose-backup (sre): choose the backup to restore from → formation-mds-" in looked.stdout
    assert not_ready(api_client(lakehouse.region.kubeconfig), MDS)
    ran = chaos("runbook", "run", "restore-formation", *arguments, "--runs", str(tmp_path))
    assert ran.code == ExitCode.HELD, ran.said
    (timeline,) = tmp_path.glob("*/timeline.jsonl")
    events = read_timeline(timeline)
    assert [one["outcome"] for one in events if one.kind == "runbook.step.end"] == ["ok"] * 5
    assert {one.actor for one in events} == {"sre"}
    assert ("before",) in catalogue_of(lakehouse).list_namespaces()


def test_the_database_goes_back_to_a_moment_by_its_runbook(lakehouse: Lakehouse, tmp_path: Path) -> None:
    """What was acknowledged before the moment is there afterwards, what came later is not."""
    take(lakehouse, "postgres")
    catalogue = catalogue_of(lakehouse)
    catalogue.create_namespace("earlier")
    moment = time.time() + 1
    time.sleep(2)
    catalogue.create_namespace("later")
    text = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(moment))
    arguments = ("--region", lakehouse.region.name, "--runs", str(tmp_path), "--set", f"to={text}")
    ran = chaos("runbook", "run", "restore-postgres", *arguments)
    assert ran.code == ExitCode.HELD, ran.said
    found = catalogue_of(lakehouse).list_namespaces()
    assert ("earlier",) in found
    assert ("later",) not in found
    take(lakehouse, "postgres")
    assert verify(lakehouse, "postgres")[0] == ExitCode.HELD


def test_metadata_goes_back_to_a_snapshot_by_its_runbook(lakehouse: Lakehouse, tmp_path: Path) -> None:
    """A collection of the snapshot is there with all rows that were ever acknowledged; a later one is not."""
    address = endpoints(lakehouse.region, lakehouse.engine)["milvus"]
    milvus = MilvusClient(address, timeout=20)
    made = ("kept_by_snapshot", "made_later")
    rows = [{"id": number, "vector": [float(number)] * 8} for number in range(20)]
    milvus.create_collection(made[0], dimension=8, metric_type="L2")
    milvus.insert(made[0], rows[:10])
    take(lakehouse, "etcd")
    # the schedule may take another any time
    snapshot = _newest(lakehouse, "etcd")
    milvus.insert(made[0], rows[10:])
    milvus.create_collection(made[1], dimension=8, metric_type="L2")
    milvus.insert(made[1], rows)
    try:
        arguments = ("--region", lakehouse.region.name, "--runs", str(tmp_path), "--set", f"snapshot={snapshot}")
        ran = chaos("runbook", "run", "restore-etcd", *arguments)
        assert ran.code == ExitCode.HELD, ran.said
        milvus = MilvusClient(address, timeout=20)
        assert made[0] in milvus.list_collections()
        assert made[1] not in milvus.list_collections()
        found = milvus.query(made[0], filter="id >= 0", output_fields=["id"])
        assert sorted(row["id"] for row in found) == list(range(20))
        # and goes on: of the same name is another collection, without the rows of the lost one
        milvus.create_collection(made[1], dimension=8, metric_type="L2")
        milvus.insert(made[1], rows[:3])
        assert len(milvus.query(made[1], filter="id >= 0", output_fields=["id"])) == 3
    finally:
        for name in made:
            milvus.drop_collection(name)
    take(lakehouse, "etcd")
    assert verify(lakehouse, "etcd")[0] == ExitCode.HELD


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("restore-formation",), "needs formation: give it as `--set formation=VALUE`"),
        (("restore-formation", "--set", "formation=trino"), "there is no formation 'trino'"),
        (("restore-formation", "--set", "formation=mds", "--set", "backup=none"), "there is no backup none"),
        (("restore-etcd", "--set", "snapshot=none"), "there is no snapshot none"),
        (("restore-postgres", "--set", "to=yesterday"), "'yesterday' is no moment"),
        (("restore-postgres", "--set", "to=2026-01-31T12:00:00"), "says no time zone"),
        (("restore-postgres", "--set", "to=2026-01-31T12:00:00+00:00"), "the database cannot be restored to"),
        (("restore-postgres", "--set", "to"), "it has to be PARAMETER=VALUE"),
    ],
)
def test_a_runbook_that_cannot_be_carried_out_touches_nothing(
    lakehouse: Lakehouse, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """One sentence, exit code 64, and no step is taken."""
    ran = chaos("runbook", "run", "--region", lakehouse.region.name, "--runs", str(tmp_path), *arguments)
    assert ran.code == ExitCode.USAGE, ran.said
    assert said in ran.stderr
    assert not [event for path in tmp_path.glob("*/timeline.jsonl") for event in read_timeline(path)]


def _core(lakehouse: Lakehouse) -> Any:  # noqa: ANN401 - the Kubernetes client carries no types
    return client.CoreV1Api(api_client(lakehouse.region.kubeconfig))


def _newest(lakehouse: Lakehouse, name: str) -> str:
    kind = next(one for one in kinds_of(lakehouse.region, lakehouse.engine) if one.name == name)
    return kind.backups()[-1].name


@contextmanager
def _content_of(stored: S3FileSystem, path: str) -> Iterator[bytes]:
    """Yield the bytes of an object, and put them back in the end."""
    with stored.open_input_stream(path, compression=None) as stream:
        content: bytes = stream.read()
    try:
        yield content
    finally:
        _write(stored, path, content)


def _write(stored: S3FileSystem, path: str, content: bytes) -> None:
    with stored.open_output_stream(path, compression=None) as stream:
        stream.write(content)


def _delete_all(lakehouse: Lakehouse, formation: str) -> None:
    """Delete the objects of a formation and its pods, as a slip of `kubectl delete all` and more would."""
    api, label = api_client(lakehouse.region.kubeconfig), f"{FORMATION_LABEL}={formation}"
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    apps.delete_collection_namespaced_deployment(NAMESPACE, label_selector=label)
    core.delete_collection_namespaced_pod(NAMESPACE, label_selector=label, grace_period_seconds=0)
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector=label)
    core.delete_collection_namespaced_secret(NAMESPACE, label_selector=label)
    core.delete_collection_namespaced_service(NAMESPACE, label_selector=label)
    client.PolicyV1Api(api).delete_collection_namespaced_pod_disruption_budget(NAMESPACE, label_selector=label)
