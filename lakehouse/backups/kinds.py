"""All kinds of backup of a region's lakehouse."""

from __future__ import annotations

from gameday.engine import Engine
from gameday.regions import Region
from lakehouse.backups.backup import Kind
from lakehouse.backups.postgres import PostgresBackups

KINDS = ("postgres", "vectors", "etcd")


def kinds_of(region: Region, engine: Engine) -> list[Kind]:
    """Return every kind of backup that is taken of a region's lakehouse."""
    return [PostgresBackups(region, engine)]
