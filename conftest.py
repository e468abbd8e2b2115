"""The composition root of the tests: the one cluster that they share, with its lakehouse."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from lab import Lakehouse

from gameday import clusters
from gameday.engine import find_engine
from gameday.regions import Region, region_named
from lakehouse import deploy
from lakehouse.images import node_images

# The region that `make gameday` uses too: a cluster that is up is used, one that is not is taken down in the end.
REGION = os.environ.get("CHAOS_TEST_REGION", "east")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put all tests of the shared cluster into one group, so that xdist never runs two of their faults at once.

    First of all, since xdist reads the groups in the same hook.
    """
    for item in items:
        if item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.fixture(scope="session")
def region() -> Iterator[Region]:
    """Return the region of the shared cluster, which is up."""
    chosen, engine = region_named(REGION), find_engine()
    made = clusters.up(chosen, lambda engine: node_images(engine, "auto"))
    yield chosen
    if made:
        clusters.down(chosen, engine)


@pytest.fixture(scope="session")
def lakehouse(region: Region) -> Lakehouse:
    """Return the shared region with its lakehouse up."""
    engine = find_engine()
    deploy.up(region, engine)
    return Lakehouse(region, engine)
