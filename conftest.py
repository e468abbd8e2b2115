"""The composition root of the tests: the one cluster that they share, with its lakehouse."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from lab import Lakehouse

from gameday import clusters
from gameday.engine import find_engine
from gameday.regions import Region, region_named
from lakehouse.formations import FORMATIONS
from lakehouse.images import node_images
from lakehouse.mds_formation import MDS

# The region that `make gameday` uses too: a cluster that is up is used, one that is not is taken down in the end.
type Shared = tuple[Region, bool]
REGION = os.environ.get("CHAOS_TEST_REGION", "east")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put all tests of the shared cluster into one group, so that xdist never runs two of their faults at once.

    First of all, since xdist reads the groups in the same hook. Tests of MDS alone come before those that need every
    formation, so that the lakehouse grows once.
    """
    items.sort(
        key=lambda item: (bool(item.get_closest_marker("last")), "lakehouse" in getattr(item, "fixturenames", ()))
    )
    for item in items:
        if item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.fixture(scope="session")
def shared() -> Iterator[Shared]:
    """Return the region of the shared cluster, which is up, and whether it goes with the tests, which made it."""
    chosen, engine = region_named(REGION), find_engine()
    made = clusters.up(chosen, lambda engine: node_images(engine, "auto"))
    yield chosen, made
    if made:
        clusters.down(chosen, engine)


@pytest.fixture(scope="session")
def region(shared: Shared) -> Region:
    """Return the region of the shared cluster, which is up."""
    return shared[0]


@pytest.fixture(scope="session")
def mds_alone(shared: Shared) -> Lakehouse:
    """Return the shared region with MDS up, for tests that would only wait for the other formations."""
    return Lakehouse.deployed(*shared, (MDS,))


@pytest.fixture(scope="session")
def lakehouse(shared: Shared) -> Lakehouse:
    """Return the shared region with its whole lakehouse up."""
    return Lakehouse.deployed(*shared, FORMATIONS)
