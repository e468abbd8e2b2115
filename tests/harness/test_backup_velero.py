"""Backups by Velero, without a cluster: what is compared, what is left out of a comparison, and what is kept."""

from __future__ import annotations

import copy
import gzip
from pathlib import Path
from typing import Any

import pytest
from formation_values import VALUES
from mds_lab import program

from gameday.errors import HarnessError
from gameday.regions import region_named
from lakehouse import hour
from lakehouse.backup.velero_listing import lacking_objects, listing_of
from lakehouse.backup_formation import schedule_name, template
from lakehouse.backups.velero import whole
from lakehouse.backups.velero_compare import Objects, comparable, differences
from lakehouse.formation import DATA, NAMESPACE, render
from lakehouse.formations import FORMATIONS
from lakehouse.mds_formation import MDS
from lakehouse.milvus_formation import MILVUS

pytestmark = pytest.mark.needs("backup")


def service(**spec: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
    """Return a Service as the API server has it."""
    ports = [{"port": 8181, "targetPort": "http", "nodePort": 30181}]
    return {
        "metadata": {
            "name": "mds",
            "namespace": "lakehouse",
            "uid": "1",
            "resourceVersion": "2",
            "labels": {"app.kubernetes.io/name": "mds"},
            "annotations": {"lakehouse/crn": "crn:1"},
        },
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.9", "ports": ports, **spec},
        "status": {"loadBalancer": {}},
    }


def restored(item: dict[str, Any]) -> dict[str, Any]:
    """Return an object as a restore into another namespace leaves it."""
    there = copy.deepcopy(item)
    there["metadata"] |= {"namespace": "lakehouse-verify-1", "uid": "7", "resourceVersion": "8"}
    there["metadata"]["labels"]["velero.io/restore-name"] = "verify"
    there["spec"]["clusterIP"] = "10.96.0.77"
    for port in there["spec"]["ports"]:
        port["nodePort"] = 32000
    return there


def compared(live: dict[str, Any], other: dict[str, Any]) -> tuple[str, ...]:
    """Return what differs between a Service and the one that was restored."""
    one: Objects = {("Service", "mds"): comparable("Service", live, "lakehouse")}
    two: Objects = {("Service", "mds"): comparable("Service", other, "lakehouse-verify-1")}
    return differences(one, two)


def test_what_no_backup_can_have_is_no_difference() -> None:
    """Addresses, ports of nodes, identities and marks of the restore are the cluster's own."""
    assert compared(service(), restored(service())) == ()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda item: item["spec"].update(type="ClusterIP"), "Service mds differs in spec.type"),
        (lambda item: item["spec"]["ports"][0].update(port=8182), "Service mds differs in spec.ports"),
        (lambda item: item["metadata"]["labels"].clear(), "metadata.labels.app.kubernetes.io/name"),
        (lambda item: item["metadata"]["annotations"].update({"lakehouse/crn": "crn:2"}), "lakehouse/crn"),
    ],
)
def test_what_differs_is_named_by_its_path(change: Any, named: str) -> None:  # noqa: ANN401 - a function of the test
    """Never with the values, which may be secret."""
    other = restored(service())
    change(other)
    (problem,) = compared(service(), other)
    assert named in problem
    assert "crn:2" not in problem


def test_what_is_missing_or_too_much_is_named() -> None:
    """Each by its kind and name."""
    one: Objects = {("Secret", "mds"): {}, ("ConfigMap", "mds"): {}}
    two: Objects = {("ConfigMap", "mds"): {}, ("ConfigMap", "old"): {}}
    assert differences(one, two) == ("Secret mds is missing", "ConfigMap old is in the backup and not there")


def test_replicas_are_no_difference_and_templates_are() -> None:
    """In the scratch namespace nothing runs, and what would run is compared."""
    deployment: dict[str, Any] = {"metadata": {"name": "mds"}, "spec": {"replicas": 3, "template": {"x": "lakehouse"}}}
    stopped = copy.deepcopy(deployment)
    stopped["spec"] |= {"replicas": 0, "template": {"x": "lakehouse-verify-1"}}
    one: Objects = {("Deployment", "mds"): comparable("Deployment", deployment, "lakehouse")}
    two: Objects = {("Deployment", "mds"): comparable("Deployment", stopped, "lakehouse-verify-1")}
    assert differences(one, two) == ()
    two["Deployment", "mds"]["spec"]["template"]["x"] = "other"
    assert differences(one, two) == ("Deployment mds differs in spec.template.x",)


def test_what_a_backup_lacks_of_what_was_deployed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever the formation has now; what belongs to no namespace is not looked for."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    region = region_named("east")
    assert hour.kept_objects(region, "mds") == {}
    rendered = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "mds", "namespace": NAMESPACE}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mds", "namespace": NAMESPACE}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "mds"}},
    ]
    hour.keep_objects(region, {"mds": listing_of(rendered)})
    listing = {"apps/v1/Deployment": [f"{NAMESPACE}/mds"], "v1/Secret": [f"{NAMESPACE}/mds", f"{NAMESPACE}/other"]}
    wanted = hour.kept_objects(region, "mds")
    assert lacking_objects(wanted, listing) is None
    assert lacking_objects(wanted, {**listing, "v1/Secret": [f"{NAMESPACE}/other"]}) == "Secret mds is not in it"
    assert lacking_objects(wanted, {}) == "Deployment mds, Secret mds is not in it"
    with pytest.raises(HarnessError, match=r"objects\.json cannot be read: deploy presto anew"):
        hour.kept_objects(region, "presto")


def test_an_archive_is_whole_or_it_is_not() -> None:
    """One that ends early, has nothing, or is none is told from one that ends as it should."""
    archive = gzip.compress(b"objects" * 1000)
    assert whole(archive)
    assert whole(gzip.compress(b""))
    for broken in (archive[: len(archive) // 2], archive[:-1], b"", b"objects"):
        assert not whole(broken)
    flipped = bytearray(archive)
    flipped[-6] ^= 1
    assert not whole(bytes(flipped))


def test_volumes_are_backed_up_where_a_formation_has_some() -> None:
    """By their pods, which name them; of other formations no pod is kept, since jobs' pods carry their label."""
    for item in render(MILVUS, VALUES, program("kubectl")):
        if item["kind"] == "StatefulSet":
            (claim,) = item["spec"]["volumeClaimTemplates"]
            annotations = item["spec"]["template"]["metadata"]["annotations"]
            assert annotations["backup.velero.io/backup-volumes"] == claim["metadata"]["name"] == DATA
    assert "pods" not in template(MILVUS, 3600)["excludedResources"]
    assert "pods" in template(MDS, 3600)["excludedResources"]
    assert template(MDS, 120)["ttl"] == "2880s"
    assert len({schedule_name(one.name) for one in FORMATIONS}) == len(FORMATIONS)
