"""The formation of MDS in one region: the base manifests with the image, the addresses and the keys of that region."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gameday.errors import HarnessError
from gameday.shell import run
from lakehouse.provider import (
    BUCKET,
    DATABASE,
    DATABASE_PORT,
    DATABASE_USER,
    LOAD_BALANCER_PORT,
    OBJECT_STORE_PORT,
    REGION_OF_STORE,
)

NAMESPACE = "lakehouse"
NAME = "mds"
# What one replica serves at a time. Of a declared burst of 12 two replicas take 6 each with room to spare; one takes 8.
MAX_CONCURRENT_REQUESTS = 8
# From SIGTERM on: two failed checks of the load balancer (1 s), two of the kubelet (2 s); then nobody comes any more.
DRAIN_S = 3

_BASE = Path(__file__).parent / "manifests" / "base"
_IMAGE = "localhost/lakehouse/mds:dev"


@dataclass(frozen=True)
class FormationValues:
    """What differs between regions: the image of MDS, and addresses and keys of the provider's services there."""

    image: str
    database_address: str
    database_password: str
    object_store_address: str
    object_store_key: str
    object_store_secret: str
    max_concurrent_requests: int = MAX_CONCURRENT_REQUESTS


def mds_config(values: FormationValues) -> list[dict[str, Any]]:
    """Return the ConfigMap and the Secret that MDS reads its settings from."""
    metadata = {
        "name": NAME,
        "namespace": NAMESPACE,
        "labels": {"app.kubernetes.io/name": NAME, "lakehouse/formation": NAME},
    }
    settings = {
        "MDS_WAREHOUSE": f"s3://{BUCKET}/warehouse",
        "MDS_S3_ENDPOINT": f"http://{values.object_store_address}:{OBJECT_STORE_PORT}",
        "MDS_S3_REGION": REGION_OF_STORE,
        "MDS_MAX_CONCURRENT_REQUESTS": str(values.max_concurrent_requests),
        "MDS_DRAIN_SECONDS": str(DRAIN_S),
        "MDS_PORT": str(LOAD_BALANCER_PORT),
    }
    address = f"{values.database_address}:{DATABASE_PORT}/{DATABASE}"
    secrets = {
        "MDS_DATABASE_URI": f"postgresql+psycopg://{DATABASE_USER}:{values.database_password}@{address}",
        "MDS_S3_ACCESS_KEY": values.object_store_key,
        "MDS_S3_SECRET_KEY": values.object_store_secret,
    }
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": settings},
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "stringData": secrets},
    ]


def render(values: FormationValues, kubectl: str = "kubectl") -> list[dict[str, Any]]:
    """Return all objects of the formation, in the order in which they are to be applied.

    `kubectl` is the program that renders the base manifests. Raises HarnessError where it fails or is missing.
    """
    base = [item for item in yaml.safe_load_all(run([kubectl, "kustomize", str(_BASE)], deadline_s=60).stdout) if item]
    config = mds_config(values)
    deployments = [item for item in base if item["kind"] == "Deployment"]
    if len(deployments) != 1:
        raise HarnessError(f"the manifests in {_BASE} have {len(deployments)} Deployments, not one")
    _fill_in(deployments[0]["spec"]["template"], values.image, config)
    first = [item for item in base if item["kind"] == "Namespace"]
    return [*first, *config, *(item for item in base if item["kind"] != "Namespace")]


def _fill_in(template: dict[str, Any], image: str, config: list[dict[str, Any]]) -> None:
    for container in [*template["spec"]["initContainers"], *template["spec"]["containers"]]:
        if container["image"] == _IMAGE:
            container["image"] = image
    # pods read their settings once: others make it another template, so they are rolled out
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]
    template["metadata"].setdefault("annotations", {})["lakehouse/settings"] = digest


def declared_figures(values: FormationValues) -> Mapping[str, int]:
    """Return what the formation declares, by name, for the report."""
    return {"mds.max_concurrent_requests": values.max_concurrent_requests, "mds.drain_s": DRAIN_S}
