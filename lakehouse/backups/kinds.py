"""All kinds of backup of a region's lakehouse."""

from __future__ import annotations

from gameday.engine import Engine
from gameday.regions import Region
from lakehouse.backups.backup import Kind
from lakehouse.backups.etcd import EtcdSnapshots
from lakehouse.backups.postgres import PostgresBackups
from lakehouse.backups.vectors import VectorCopies
from lakehouse.backups.velero import VeleroBackups
from lakehouse.formations import FORMATIONS
from lakehouse.hour import kept_formations
from lakehouse.milvus_formation import MILVUS

KINDS = ("postgres", "etcd", "vectors", *(f"velero-{formation.name}" for formation in FORMATIONS))


def kinds_of(region: Region, engine: Engine) -> list[Kind]:
    """Return every kind of backup that is taken of what is deployed in a region, whether its cluster is up or not."""
    deployed = [formation for formation in FORMATIONS if formation.name in kept_formations(region)]
    found: list[Kind] = [PostgresBackups(region, engine)] if deployed else []
    if MILVUS in deployed:
        found += [EtcdSnapshots(region, engine), VectorCopies(region, engine)]
    return [*found, *(VeleroBackups(region, engine, formation) for formation in deployed)]
