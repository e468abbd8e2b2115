"""What those who take backups in the cluster, and those who watch their ages, are told: schedules, places and keys."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.backup.velero_listing import Listing
from lakehouse.formation import NAMESPACE, SERVICE_LABEL, FormationValues
from lakehouse.milvus_formation import ETCD, MEMBERS, ROOT_PATH
from lakehouse.provider import OBJECT_STORE_PORT, VECTOR_BUCKET, keys, remote

BACKUP = "backup"
SNAPSHOTS = "etcd-snapshot"
# Of the Service by which Prometheus finds what tells the ages, and its port.
AGES, AGES_PORT = "backup-ages", 9750
# First part of every key of Milvus's, and where snapshots go.
ETCD_ROOT = "by-dev"
ETCD_BACKUPS = "backups/etcd"
# By name: the list of formations has what watches them, which is told of backups.
FORMATIONS = ("mds", "presto", "spark", "milvus")
# One is young enough also if the newest is bad, and a mistake may be seen hours later.
_KEPT = 4


@dataclass(frozen=True)
class Schedule:
    """How often a kind of backup is taken, and of which formation."""

    kind: str
    formation: str
    every_s: float


def schedules(formations: Collection[str], hour_s: float) -> list[Schedule]:
    """Return the schedules of all that is backed up of these formations; each takes one an hour."""
    of = [("etcd", "milvus"), ("vectors", "milvus"), ("postgres", "mds")]
    of += [(f"velero-{name}", name) for name in formations]
    return [Schedule(kind, formation, hour_s) for kind, formation in of if formation in formations]


def snapshot_settings(values: FormationValues, objects: Mapping[str, Listing]) -> list[dict[str, Any]]:
    """Return the ConfigMap and the Secret `etcd-snapshot`, of the pod that takes snapshots and tells ages.

    `objects` are those that each formation's backups should have, by its name.
    """
    kinds = {
        one.kind: {"formation": one.formation, "every_s": one.every_s} for one in schedules(FORMATIONS, values.hour_s)
    }
    settings = {
        "BACKUP_ETCD_MEMBERS": ",".join(f"{ETCD}-{number}.{ETCD}.lakehouse:2379" for number in range(MEMBERS)),
        "BACKUP_ETCD_ROOT": ETCD_ROOT,
        "BACKUP_ETCD_TO": f"store:{ETCD_BACKUPS}",
        "BACKUP_VECTORS": f"live:{VECTOR_BUCKET}",
        "BACKUP_ROOT_PATH": ROOT_PATH,
        "BACKUP_EVERY_SECONDS": f"{values.hour_s:g}",
        "BACKUP_KEPT": str(_KEPT),
        "AGES_PORT": str(AGES_PORT),
        "AGES_KINDS": json.dumps(kinds),
        "AGES_OBJECTS": json.dumps(objects),
        "AGES_STORE": "store:",
        # none but that of the environment
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_RETRIES": "1",
        "RCLONE_LOW_LEVEL_RETRIES": "3",
        **remote("live", f"http://{values.object_store_address}:{OBJECT_STORE_PORT}"),
        **remote("store", f"http://{values.backup_store_address}:{OBJECT_STORE_PORT}"),
    }
    secrets = dict(keys(("live", "store"), values.object_store_key, values.object_store_secret))
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(), "data": settings},
        {"apiVersion": "v1", "kind": "Secret", "metadata": _metadata(), "type": "Opaque", "stringData": secrets},
    ]


def _metadata() -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": SNAPSHOTS, SERVICE_LABEL: BACKUP}
    return {"name": SNAPSHOTS, "namespace": NAMESPACE, "labels": labels}
