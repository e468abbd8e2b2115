"""A formation: one engine's labelled set of Kubernetes objects, and how it is rendered for one region.

The manifests are plain ones, put together by kustomize; what differs between regions (images, addresses, keys) is
filled in here, the same way for every engine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from gameday.errors import HarnessError
from gameday.shell import run

NAMESPACE = "lakehouse"
FORMATION_LABEL = "lakehouse/formation"
# Of what is deployed beside the formations, and is none: no promise is about it.
SERVICE_LABEL = "lakehouse/service"
# Of what Spark makes for one job.
WORKLOAD_LABEL = "lakehouse/workload"
CRN_ANNOTATION = "lakehouse/crn"
# When a runbook rolled pods out anew.
RESTARTED = "lakehouse/restarted"
FORMATIONS_ANNOTATION = "lakehouse/formations"
# What one replica of MDS serves at a time. Of a declared burst of 12 two replicas take 6 each, with room for what else
# is in flight when they are slow: who is refused comes again after a second, with the next burst. One refuses a
# quarter of each burst, which is what losing two zones means.
MAX_CONCURRENT_REQUESTS = 9

_MANIFESTS = Path(__file__).parent / "manifests"
# The name of the volume that each pod of a StatefulSet has a claim for.
DATA = "data"
# Kinds whose pods run for good.
RUNNING = ("Deployment", "StatefulSet")
_WITH_PODS = (*RUNNING, "DaemonSet")
_PLACEHOLDER = "localhost/lakehouse/{name}:dev"


class ImageSource(StrEnum):
    """Where Presto, Milvus and Spark's jobs come from: built here, or as these projects publish them."""

    PACKAGES = "packages"
    UPSTREAM = "upstream"


@dataclass(frozen=True)
class FormationValues:
    """What differs between regions: addresses and keys of the provider's services there, and the images.

    `images` maps the name of a formation to the reference of the image built for it; `harness_address` is where pods
    find the harness while a run is open; `spark_conf` are properties that Spark's jobs begin with in place of those
    declared. Backups are taken to the store at `backup_store_address`, once in `hour_s` seconds.
    """

    region: str
    images: Mapping[str, str]
    database_address: str
    database_password: str
    console_password: str
    object_store_address: str
    object_store_key: str
    object_store_secret: str
    load_balancer_address: str
    harness_address: str
    max_concurrent_requests: int = MAX_CONCURRENT_REQUESTS
    spark_conf: Mapping[str, str] = field(default_factory=dict)
    source: ImageSource = ImageSource.PACKAGES
    backup_store_address: str = ""
    hour_s: float = 3600.0


@dataclass(frozen=True)
class Entrance:
    """Where clients enter: the load balancer's port, the port of every node behind it, and the path of its check.

    `falls` is how many checks in a row, `check_every_ms` apart, a node fails, each within `check_timeout_ms`, before
    it gets nothing more. Where clients speak no plain HTTP, the check has ports of its own: `health_port` of the load
    balancer and `health_node_port` behind it.
    """

    port: int
    node_port: int
    check: str
    falls: int = 2
    check_timeout_ms: int = 500
    check_every_ms: int = 500
    health_port: int = 0
    health_node_port: int = 0


@dataclass(frozen=True, eq=False)
class Formation:
    """One engine: its manifests (a folder of that name), and what it is made of.

    deployments   replicas of each of its Deployments, by the label `app.kubernetes.io/name` of their pods
    stateful      the same of its StatefulSets, whose pods are bound to a zone by their volumes
    config        makes the ConfigMaps and Secrets that the engine reads, for one region
    declared      figures that decide how it recovers, by name, for the report
    lacks         tells, given its address, what it lacks to serve as a whole although it answers; None where nothing
    lacks_all     the same of what it lacks to serve anybody
    upstream      changes the spec of its pods so that they run what the project publishes; None where nobody does
    """

    name: str
    deployments: Mapping[str, int]
    entrance: Entrance
    config: Callable[[FormationValues], list[dict[str, Any]]]
    declared: Mapping[str, str | int | float] = field(default_factory=dict)
    lacks: Callable[[str], str | None] = lambda _address: None
    lacks_all: Callable[[str], str | None] = lambda _address: None
    upstream: Callable[[dict[str, Any]], None] | None = None
    stateful: Mapping[str, int] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, int]:
        """Replicas of all that runs for good, by the label of their pods."""
        return {**self.deployments, **self.stateful}

    @property
    def replicas(self) -> int:
        """Pods that it has when it is whole."""
        return sum(self.parts.values())


def crn(region: str, part: str) -> str:
    """Return the cloud resource name of a part of a region's lakehouse: the instance, or one of its formations."""
    return f"crn:v1:chaos:public:lakehouse:{region}:a/chaos:{part}"


def instance(region: str, formations: Sequence[str]) -> list[dict[str, Any]]:
    """Return the objects of the instance itself, which all formations belong to; it says by name which it has."""
    annotations = {CRN_ANNOTATION: crn(region, "instance"), FORMATIONS_ANNOTATION: ",".join(formations)}
    metadata = {"name": NAMESPACE, "annotations": annotations}
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}]


def config_map(name: str, formation: str, data: Mapping[str, str]) -> dict[str, Any]:
    """Return a ConfigMap of a formation."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(name, formation), "data": dict(data)}


def secret(name: str, formation: str, data: Mapping[str, str]) -> dict[str, Any]:
    """Return a Secret of a formation."""
    metadata = _metadata(name, formation)
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "stringData": dict(data)}


def _metadata(name: str, formation: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": name, FORMATION_LABEL: formation}
    return {"name": name, "namespace": NAMESPACE, "labels": labels}


def render(formation: Formation, values: FormationValues, kubectl: str = "kubectl") -> list[dict[str, Any]]:
    """Return all objects of a formation, in the order in which they are to be applied.

    `kubectl` is the program that renders the manifests. Raises HarnessError where it fails or is missing.
    """
    folder = _MANIFESTS / formation.name
    shown = run([kubectl, "kustomize", str(folder)], deadline_s=60).stdout
    plain = [item for item in yaml.safe_load_all(shown) if item]
    if not any(item["kind"] == "Deployment" for item in plain):
        raise HarnessError(f"the manifests in {folder} have no Deployment")
    config = formation.config(values)
    for item in plain:
        if item["kind"] in _WITH_PODS:
            _fill_in(item["spec"]["template"], formation.name, values.images[formation.name], config)
            if values.source is ImageSource.UPSTREAM and formation.upstream:
                formation.upstream(item["spec"]["template"]["spec"])
    objects = [*config, *plain]
    for item in objects:
        item["metadata"].setdefault("annotations", {})[CRN_ANNOTATION] = crn(values.region, formation.name)
    return objects


def images_of(running: dict[str, Any]) -> list[str]:
    """Return the references of all images of the pods of a Deployment or StatefulSet, each once."""
    spec = running["spec"]["template"]["spec"]
    return sorted({container["image"] for container in [*spec.get("initContainers", []), *spec["containers"]]})


def _fill_in(template: dict[str, Any], name: str, image: str, config: list[dict[str, Any]]) -> None:
    spec = template["spec"]
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        if container["image"] == _PLACEHOLDER.format(name=name):
            container["image"] = image
    # pods read their settings once: others make it another template, so they are rolled out
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]
    template["metadata"].setdefault("annotations", {})["lakehouse/settings"] = digest
