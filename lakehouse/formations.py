"""The formations of the lakehouse: the one list from which they are deployed, watched, settled and reported.

What watches them and what takes their backups is deployed as they are, and is none of them.
"""

from __future__ import annotations

from collections.abc import Collection

from lakehouse.backup_formation import BACKUP
from lakehouse.formation import Formation
from lakehouse.mds_formation import MDS
from lakehouse.milvus_formation import MILVUS
from lakehouse.monitoring_formation import MONITORING
from lakehouse.presto_formation import PRESTO
from lakehouse.spark_formation import SPARK

FORMATIONS: tuple[Formation, ...] = (MDS, PRESTO, SPARK, MILVUS)
DEPLOYED: tuple[Formation, ...] = (*FORMATIONS, MONITORING, BACKUP)


def named(names: Collection[str]) -> list[Formation]:
    """Return the formations of these names, in the order of the list; without a name, all."""
    return [formation for formation in FORMATIONS if formation.name in names] or list(FORMATIONS)


def declared_figures() -> dict[str, str | int | float]:
    """Return what all that is deployed declares, by name, for the report."""
    return {name: figure for formation in DEPLOYED for name, figure in formation.declared.items()}
