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

KINDS = ("postgres", "etcd", "vectors", *(f"velero-{formation.name}" for formation in FORMATIONS))


def kinds_of(region: Region, engine: Engine) -> list[Kind]:
    """Return every kind of backup that is taken of a region's lakehouse."""
    formations = [VeleroBackups(region, engine, formation) for formation in FORMATIONS]
    return [
        PostgresBackups(region, engine),
        EtcdSnapshots(region, engine),
        VectorCopies(region, engine),
        *formations,
    ]
