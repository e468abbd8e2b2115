"""What formations are told of a region that does not exist, for tests that render or read them."""

from __future__ import annotations

from typing import Any

from mds_lab import program

from lakehouse.formation import Formation, FormationValues, render
from lakehouse.formations import DEPLOYED

VALUES = FormationValues(
    region="east",
    images={formation.name: f"localhost/lakehouse/{formation.name}:abc" for formation in DEPLOYED},
    database_address="10.89.0.7",
    database_password="pw-of-database",  # noqa: S106 - of nothing that exists
    console_password="pw-of-console",  # noqa: S106 - of nothing that exists
    object_store_address="10.89.0.8",
    object_store_key="key",
    object_store_secret="secret",  # noqa: S106 - of nothing that exists
    load_balancer_address="10.89.0.9",
    harness_address="10.89.0.1",
)

type Objects = dict[tuple[str, str], dict[str, Any]]


def rendered(formation: Formation, values: FormationValues = VALUES) -> Objects:
    """Return the objects of a formation by kind and name."""
    return {(item["kind"], item["metadata"]["name"]): item for item in render(formation, values, program("kubectl"))}
