"""What takes backups on the cluster: Velero, with a schedule for each formation, and snapshots of etcd.

It is deployed as a formation is, and is none: nobody loads it, no promise is about it, and its pods do not carry the
label of formations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import yaml

from gameday.shell import run
from lakehouse import backup_settings
from lakehouse.backup.velero_listing import Listing
from lakehouse.formation import FORMATION_LABEL, NAMESPACE, SERVICE_LABEL, Entrance, Formation, FormationValues
from lakehouse.provider import BACKUP_BUCKET, OBJECT_STORE_PORT, REGION_OF_STORE
from nodeimage.programs import velero_programs

NAME = backup_settings.BACKUP
VELERO = "velero"
NODE_AGENT = "node-agent"
# What it tells Prometheus, and by which one sees that it runs.
PORT, NODE_PORT = 8085, 30085
LOCATION = "default"
API = "velero.io/v1"
# How many hours a backup is kept.
KEPT_HOURS = 24
# What is made anew by what is restored; and pods of Spark's jobs, which carry the label of their formation. Of a
# formation with volumes pods are taken along, since by them their volumes are found.
_NOT_KEPT = ("replicasets", "controllerrevisions", "endpoints", "endpointslices", "events")
_NOT_KEPT_WITHOUT_VOLUMES = (*_NOT_KEPT, "pods")


def backup(kept: Sequence[Formation], objects: Mapping[str, Listing]) -> Formation:
    """Return what takes backups of these formations, and knows of each by its name which objects one should have."""
    return Formation(
        name=NAME,
        deployments={VELERO: 1, backup_settings.SNAPSHOTS: 1},
        entrance=Entrance(PORT, NODE_PORT, "/metrics"),
        config=partial(_config, kept, objects),
        declared={"backup.kept_hours": KEPT_HOURS},
    )


def schedule_name(formation: str) -> str:
    """Return the name of the schedule of a formation, with which those of its backups begin."""
    return f"formation-{formation}"


def descriptions() -> list[dict[str, Any]]:
    """Return the kinds of objects that Velero works with, as it describes them itself."""
    command = [str(velero_programs() / VELERO), "install", "--crds-only", "--dry-run", "--output", "yaml"]
    found: list[dict[str, Any]] = yaml.safe_load(run(command, deadline_s=60).stdout)["items"]
    for item in found:
        item["metadata"].setdefault("labels", {})[SERVICE_LABEL] = NAME
        # kinds of Velero's own only: a status is the API server's to write
        item.pop("status", None)
    return found


def _config(kept: Sequence[Formation], objects: Mapping[str, Listing], values: FormationValues) -> list[dict[str, Any]]:
    keys = (
        f"[default]\naws_access_key_id={values.object_store_key}\naws_secret_access_key={values.object_store_secret}\n"
    )
    credentials = {"apiVersion": "v1", "kind": "Secret", "metadata": _metadata("cloud-credentials")}
    location = {
        "provider": "aws",
        "default": True,
        "objectStorage": {"bucket": BACKUP_BUCKET, "prefix": VELERO},
        "config": {
            "region": REGION_OF_STORE,
            "s3ForcePathStyle": "true",
            "s3Url": f"http://{values.backup_store_address}:{OBJECT_STORE_PORT}",
        },
    }
    return [
        {**credentials, "type": "Opaque", "stringData": {"cloud": keys}},
        {"apiVersion": API, "kind": "BackupStorageLocation", "metadata": _metadata(LOCATION), "spec": location},
        *(_schedule(formation, values.hour_s) for formation in kept),
        *backup_settings.snapshot_settings(values, objects),
    ]


def _schedule(formation: Formation, hour_s: float) -> dict[str, Any]:
    spec = {"schedule": f"@every {hour_s:.0f}s", "template": template(formation, hour_s)}
    return {"apiVersion": API, "kind": "Schedule", "metadata": _metadata(schedule_name(formation.name)), "spec": spec}


def template(formation: Formation, hour_s: float) -> Mapping[str, Any]:
    """Return what a backup of a formation holds: its objects, and the bytes of its volumes."""
    return {
        "includedNamespaces": [NAMESPACE],
        "labelSelector": {"matchLabels": {FORMATION_LABEL: formation.name}},
        "excludedResources": list(_NOT_KEPT if formation.stateful else _NOT_KEPT_WITHOUT_VOLUMES),
        # pods say by an annotation which of their volumes are taken along: none that ends with its pod
        "defaultVolumesToFsBackup": False,
        "snapshotVolumes": False,
        # All volumes of a formation are taken at once: Velero waits for those of one group together. Several workers
        # would do so too, but they write to one map without a lock (Velero 1.18.3, internal/volume, pvcPvMap.insert).
        "volumeGroupSnapshotLabelKey": FORMATION_LABEL,
        "storageLocation": LOCATION,
        "ttl": f"{KEPT_HOURS * hour_s:.0f}s",
    }


def _metadata(name: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": VELERO, SERVICE_LABEL: NAME}
    return {"name": name, "namespace": NAMESPACE, "labels": labels}


# Of nothing in particular: for its name, its entrance and what it declares.
BACKUP = backup((), {})
