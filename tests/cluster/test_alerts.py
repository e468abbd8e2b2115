"""Operators are told: each watched thing is broken on the real cluster, and its alert fires in time and clears."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
import yaml
from kubernetes import client
from lab import Lakehouse
from pyarrow.fs import S3FileSystem

from gameday.alerts import AlertReceiver
from gameday.regions import api_client
from gameday.timeline import Event, Timeline, now, read_timeline
from gameday.waiting import wait_until
from lakehouse.backup_formation import VELERO, schedule_name
from lakehouse.backups.region_stores import BACKUP_STORE, RegionStores, content_of, objects_under
from lakehouse.backups.velero_objects import patch
from lakehouse.deploy import endpoints
from lakehouse.formation import NAMESPACE
from lakehouse.monitoring_formation import NOTIFIED_WITHIN_S
from lakehouse.provider import BACKUP_BUCKET

pytestmark = pytest.mark.cluster

HTTP = ("mds", "presto", "spark")
# What is left of each part: nothing where clients should find nobody, of etcd less than a majority, of others one less.
LEFT = {
    "mds": 0, "presto-coordinator": 0, "presto-worker": 2, "spark-submission": 0, "milvus": 0, "milvus-etcd": 1,
    "milvus-kafka": 2,
}  # fmt: skip
# How long what was broken may take to be whole again, which is the formations' affair and no alert's.
_MENDED_S = 240.0

type Labels = frozenset[tuple[str, str]]
type Record = Callable[[str, object], None]


class Operators:
    """Who is told of alerts, and when each was."""

    def __init__(self, lakehouse: Lakehouse, timeline: Timeline) -> None:
        self.api = api_client(lakehouse.region.kubeconfig)
        self._prometheus = endpoints(lakehouse.region, lakehouse.engine)["monitoring"]
        self._timeline = timeline
        rules = client.CoreV1Api(self.api).read_namespaced_config_map("monitoring", NAMESPACE).data["rules.yml"]
        self._rules = [rule for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]]

    def asked(self, path: str) -> Any:  # noqa: ANN401 - JSON values
        """Return what a replica of Prometheus answers."""
        return httpx.get(f"{self._prometheus}/api/v1/{path}", timeout=5, trust_env=False).json()["data"]

    def await_quiet(self) -> None:
        """Wait until nothing is told of what was before, such as errors while the formations were deployed."""

        def look() -> str | None:
            found = [one["labels"]["alertname"] for one in self.asked("alerts")["alerts"]]
            return ", ".join(found) or None

        wait_until("no alert", look, deadline_s=_MENDED_S)

    def rules(self, alert: str) -> list[dict[str, str]]:
        """Return the labels of the rules of an alert, as the cluster has them."""
        return [rule["labels"] for rule in self._rules if rule["alert"] == alert]

    def told(self, kind: str, since: float) -> dict[Labels, Event]:
        """Return what was first told since a moment of the monotonic clock, by labels without the severity."""
        found: dict[Labels, Event] = {}
        for event in read_timeline(self._timeline.path):
            if event.kind == kind and event.mono >= since:
                found.setdefault(labels_of(event["labels"]), event)
        return found

    def await_told(self, kind: str, wanted: set[Labels], since: float, deadline_s: float) -> dict[Labels, Event]:
        """Wait until all of these were told since a moment; raises DeadlinePassed with those that were not."""

        def look() -> str | None:
            missing = wanted - set(self.told(kind, since))
            return "; ".join(", ".join(f"{key}={value}" for key, value in sorted(one)) for one in missing) or None

        wait_until(f"{len(wanted)} times {kind}", look, deadline_s=deadline_s)
        return self.told(kind, since)


def labels_of(labels: dict[str, str]) -> Labels:
    """Return what makes an alert another one, without what follows from its rule."""
    return frozenset((name, value) for name, value in labels.items() if name != "severity")


def alert(alertname: str, labels: dict[str, str]) -> Labels:
    """Return the labels of an alert by its name."""
    return labels_of({"alertname": alertname, **labels})


@pytest.fixture(scope="module")
def operators(lakehouse: Lakehouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operators]:
    """Return operators of the whole lakehouse, who are told what the harness is told in a run."""
    timeline = Timeline(tmp_path_factory.mktemp("alerts") / "timeline.jsonl")
    receiver = AlertReceiver(timeline)
    receiver.start(lakehouse.engine.gateway(lakehouse.region.network))
    yield Operators(lakehouse, timeline)
    receiver.stop()
    timeline.close()


def assert_in_time(told: dict[Labels, Event], wanted: set[Labels], broken: float, record: Record) -> None:
    """Assert that each alert was told within the declared time of the break, and write down how long each took."""
    took = {one: told[one].mono - broken for one in wanted}
    for labels, seconds in sorted(took.items(), key=lambda item: item[1]):
        name = " ".join(value for _, value in sorted(labels))
        record(f"time to alert: {name}", f"{seconds:.1f} s")
        print(f"{seconds:5.1f} s  {name}")  # noqa: T201 - a figure for who runs it with -s
    assert max(took.values()) <= NOTIFIED_WITHIN_S


@contextmanager
def clients_that_ask(lakehouse: Lakehouse) -> Iterator[None]:
    """Ask each formation that speaks HTTP for its health page four times a second, and bear what it answers."""
    known, stop = endpoints(lakehouse.region, lakehouse.engine), threading.Event()

    def ask(url: str) -> None:
        while not stop.wait(0.25):
            try:
                httpx.get(f"{url}/readyz", timeout=2, trust_env=False)
            except httpx.TransportError:
                continue

    threads = [threading.Thread(target=ask, args=(known[name],), daemon=True) for name in HTTP]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(5)


def scale(api: Any, parts: dict[str, int]) -> None:  # noqa: ANN401 - the Kubernetes client carries no types
    """Give parts of formations so many replicas; those of which none is left end at once."""
    apps = client.AppsV1Api(api)
    sets = {item.metadata.name for item in apps.list_namespaced_stateful_set(NAMESPACE).items}
    for name, count in parts.items():
        body = {"spec": {"replicas": count}}
        if name in sets:
            apps.patch_namespaced_stateful_set_scale(name, NAMESPACE, body)
        else:
            apps.patch_namespaced_deployment_scale(name, NAMESPACE, body)
        if not count:
            # else each would go on for as long as it drains
            selector = f"app.kubernetes.io/name={name}"
            core = client.CoreV1Api(api)
            core.delete_collection_namespaced_pod(NAMESPACE, label_selector=selector, grace_period_seconds=0)


def test_what_clients_and_replicas_suffer_is_told_and_over_when_it_is(
    lakehouse: Lakehouse, operators: Operators, record_property: Record
) -> None:
    """Every part loses pods, nobody serves, and etcd has no majority: pods, errors, reach and quorum, each by name."""
    parts = {rule["part"]: rule for rule in operators.rules("FormationPodsGone")}
    assert set(parts) == set(LEFT)
    wanted = {
        alert(name, labels)
        for name in ("FormationPodsGone", "FormationErrors", "FormationUnreachable", "EtcdWithoutQuorum")
        for labels in operators.rules(name)
    }
    declared = {name: count for formation in lakehouse.formations for name, count in formation.parts.items()}
    operators.await_quiet()
    with clients_that_ask(lakehouse):
        _, broken = now()
        try:
            scale(operators.api, LEFT)
            told = operators.await_told("alert.firing", wanted, broken, NOTIFIED_WITHIN_S + 30)
        finally:
            scale(operators.api, declared)
        _, mended = now()
        lakehouse.deploy()
        operators.await_told("alert.resolved", wanted, mended, _MENDED_S)
    assert_in_time(told, wanted, broken, record_property)


def remove(api: Any, kind: str, name: str) -> None:  # noqa: ANN401 - the Kubernetes client carries no types
    """Delete an object and leave its pods alone."""
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    delete = {
        "ConfigMap": core.delete_namespaced_config_map,
        "Secret": core.delete_namespaced_secret,
        "Service": core.delete_namespaced_service,
        "Deployment": apps.delete_namespaced_deployment,
        "StatefulSet": apps.delete_namespaced_stateful_set,
    }[kind]
    delete(name, NAMESPACE, propagation_policy="Orphan")


def test_every_object_of_every_formation_is_missed_by_name_until_it_is_back(
    lakehouse: Lakehouse, operators: Operators, record_property: Record
) -> None:
    """All that a rule is about is deleted at once; deploying again puts it back."""
    rules = operators.rules("FormationObjectMissing")
    wanted = {alert("FormationObjectMissing", labels) for labels in rules}
    operators.await_quiet()
    _, broken = now()
    try:
        for labels in rules:
            remove(operators.api, labels["kind"], labels["name"])
        told = operators.await_told("alert.firing", wanted, broken, NOTIFIED_WITHIN_S + 30)
    finally:
        _, mended = now()
        lakehouse.deploy()
    operators.await_told("alert.resolved", wanted, mended, _MENDED_S)
    assert_in_time(told, wanted, broken, record_property)


LOST, FAILED = "data-milvus-etcd-9", "failed-volume"


def lost_claim() -> dict[str, Any]:
    """Return a claim of etcd's name that was bound to a volume which is not there."""
    return {
        "metadata": {"name": LOST, "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "volumeName": "gone",
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }


def failed_volume() -> dict[str, Any]:
    """Return a volume whose claim is gone, and which cannot be deleted as it should be."""
    claim = {"namespace": NAMESPACE, "name": "data-milvus-etcd-8", "uid": "00000000-0000-4000-8000-000000000000"}
    return {
        "metadata": {"name": FAILED},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "capacity": {"storage": "1Mi"},
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim},
            "hostPath": {"path": "/nowhere"},
        },
    }


def test_a_lost_claim_and_a_failed_volume_are_told_until_they_are_gone(
    operators: Operators, record_property: Record
) -> None:
    """Of the names that etcd's claims have; no real one is touched."""
    core = client.CoreV1Api(operators.api)
    (rule,) = operators.rules("VolumeUnhealthy")
    wanted = {
        alert("VolumeUnhealthy", {**rule, "persistentvolumeclaim": LOST}),
        alert("VolumeUnhealthy", {**rule, "persistentvolume": FAILED}),
    }
    operators.await_quiet()
    _, broken = now()
    try:
        core.create_namespaced_persistent_volume_claim(NAMESPACE, lost_claim())
        core.create_persistent_volume(failed_volume())
        told = operators.await_told("alert.firing", wanted, broken, NOTIFIED_WITHIN_S + 30)
    finally:
        _, mended = now()
        core.delete_namespaced_persistent_volume_claim(LOST, NAMESPACE)
        core.delete_persistent_volume(FAILED)
    operators.await_told("alert.resolved", wanted, mended, NOTIFIED_WITHIN_S)
    assert_in_time(told, wanted, broken, record_property)


OLD_S = 3 * 3600.0
NEWEST_OF_PRESTO = 'lakehouse_backup_newest_timestamp_seconds{kind="velero-presto"}'


@contextmanager
def only_old_backups(lakehouse: Lakehouse, formation: str) -> Iterator[None]:
    """Let all backups of a formation be hours older than they are, and none be taken, until it is over."""
    files = RegionStores(lakehouse.region, lakehouse.engine).files(BACKUP_STORE)
    folder = f"{BACKUP_BUCKET}/{VELERO}/backups"
    names = {path.split("/")[0] for path in objects_under(files, folder)}
    paths = [f"{folder}/{name}/velero-backup.json" for name in names if name.startswith(schedule_name(formation))]
    kept = {path: content_of(files, path) for path in paths}
    assert kept
    api = api_client(lakehouse.region.kubeconfig)
    patch(api, "schedules", schedule_name(formation), {"spec": {"paused": True}})
    try:
        for path, content in kept.items():
            said = json.loads(content)
            begun = datetime.fromisoformat(said["status"]["startTimestamp"]) - timedelta(seconds=OLD_S)
            said["status"]["startTimestamp"] = begun.isoformat()
            write(files, path, json.dumps(said).encode())
        yield
    finally:
        for path, content in kept.items():
            write(files, path, content)
        patch(api, "schedules", schedule_name(formation), {"spec": {"paused": False}})


def write(files: S3FileSystem, path: str, content: bytes) -> None:
    """Write an object."""
    with files.open_output_stream(path, compression=None) as stream:
        stream.write(content)


def test_a_backup_that_is_too_old_is_told_until_there_is_a_younger_one(
    lakehouse: Lakehouse, operators: Operators, record_property: Record
) -> None:
    """Timed from when Prometheus knows how old it is: that it becomes too old it sees by its own clock."""
    (rule,) = [one for one in operators.rules("BackupTooOld") if one["kind"] == "velero-presto"]
    wanted = {alert("BackupTooOld", rule)}
    operators.await_quiet()

    def unknown() -> str | None:
        found = operators.asked(f"query?query={NEWEST_OF_PRESTO}")["result"]
        age_s = time.time() - float(found[0]["value"][1]) if found else 0.0
        return None if age_s >= OLD_S else f"the newest is {age_s:.0f} s old"

    _, before = now()
    with only_old_backups(lakehouse, "presto"):
        wait_until("Prometheus to know of the old backup", unknown, deadline_s=120)
        _, broken = now()
        told = operators.await_told("alert.firing", wanted, before, NOTIFIED_WITHIN_S + 30)
    _, mended = now()
    operators.await_told("alert.resolved", wanted, mended, _MENDED_S)
    assert_in_time(told, wanted, broken, record_property)


def test_every_source_is_scraped_and_both_alertmanagers_are_told(operators: Operators) -> None:
    """By the replica of Prometheus that is asked: all targets up, both Alertmanagers found, no rule in error."""
    targets = operators.asked("targets")["activeTargets"]
    assert {target["labels"]["job"] for target in targets} == {
        "prometheus", "kube-state-metrics", "load-balancer", "etcd", "backup",
    }  # fmt: skip
    assert {target["health"] for target in targets} == {"up"}
    assert len(operators.asked("alertmanagers")["activeAlertmanagers"]) == 2
    rules = [rule for group in operators.asked("rules")["groups"] for rule in group["rules"]]
    assert rules
    assert {rule["health"] for rule in rules} == {"ok"}
