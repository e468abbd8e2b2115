"""The provider's volumes: folders on the machines of a zone, which are there again when a machine has power again.

A cloud has a disk made when a claim asks for one. Here each node has some that wait for a claim; what a claim got
stays its own until the lakehouse is taken down.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubernetes import client

STORAGE_CLASS = "lakehouse-zonal"
LABEL = "lakehouse/volume"
# Where they are on a node.
VOLUMES = "/var/local/lakehouse"
_SIZE = "1Gi"


def path_of(number: int) -> str:
    """Return the folder of a node's volume of this number, from 0."""
    return f"{VOLUMES}/volume-{number}"


def volumes(nodes: Iterable[str], each: int) -> list[dict[str, Any]]:
    """Return the StorageClass, and for each node so many volumes that only it can mount."""
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS},
        "provisioner": "kubernetes.io/no-provisioner",
        # a pod is placed first, and its claim takes a volume there
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Retain",
    }
    return [storage_class, *(_volume(node, number) for node in nodes for number in range(each))]


def remove_volumes(api: client.ApiClient) -> None:
    """Remove all volumes of the lakehouse as objects; their folders are the caller's to empty."""
    client.CoreV1Api(api).delete_collection_persistent_volume(label_selector=LABEL)


def _volume(node: str, number: int) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{node}-{number}", "labels": {LABEL: str(number)}},
        "spec": {
            "capacity": {"storage": _SIZE},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
            "local": {"path": path_of(number)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
        },
    }
