"""The formations of the lakehouse: the one list from which they are deployed, watched, settled and reported."""

from __future__ import annotations

from lakehouse.formation import Formation
from lakehouse.mds_formation import MDS
from lakehouse.milvus_formation import MILVUS
from lakehouse.presto_formation import PRESTO
from lakehouse.spark_formation import SPARK

FORMATIONS: tuple[Formation, ...] = (MDS, PRESTO, SPARK, MILVUS)


def declared_figures() -> dict[str, str | int | float]:
    """Return what the formations declare, by name, for the report."""
    return {name: figure for formation in FORMATIONS for name, figure in formation.declared.items()}
