"""The composition root of the tests: the one cluster that they share, with its lakehouse."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest
from kubernetes.client.exceptions import ApiException
from lab import Lakehouse, Shared, chaos

from faults.undo import outstanding
from gameday import clusters
from gameday.engine import find_engine
from gameday.regions import Region, api_client, region_named
from lakehouse.deploy import deployed, down
from lakehouse.formation import Formation
from lakehouse.formations import DEPLOYED, FORMATIONS, named
from lakehouse.images import node_images
from lakehouse.mds_formation import MDS
from lakehouse.milvus_formation import MILVUS

# The region that `make gameday` uses too: a cluster that is up is used, one that is not is taken down in the end.
REGION = os.environ.get("CHAOS_TEST_REGION", "east")


# What tests that share the cluster need where they do not say it: a fixture brings all of this up.
_GROWS = {"mds_alone": {MDS.name}, "lakehouse": {one.name for one in DEPLOYED}, "milvus_alone": {MILVUS.name}}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the tests of some engines alone be run, as a game day can be."""
    parser.addoption(
        "--engine",
        action="append",
        choices=[formation.name for formation in FORMATIONS],
        default=[],
        help="run only the tests that need no other engine than this, nor alerts or backups, which are of all engines; "
        "may be given several times",
    )


def _needs(item: pytest.Item) -> set[str]:
    """Return the names of the formations without which a test cannot be run."""
    closest = item.get_closest_marker("needs")
    said = set(closest.args) if closest else set()
    unknown = said - _GROWS["lakehouse"]
    if unknown:
        raise pytest.UsageError(f"{item.nodeid} needs {', '.join(sorted(unknown))}, and there is no such formation")
    fixtures = getattr(item, "fixturenames", ())
    return said or set().union(*(names for one, names in _GROWS.items() if one in fixtures))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put all tests of the shared cluster into one group, so that xdist never runs two of their faults at once.

    First of all, since xdist reads the groups in the same hook. Tests of MDS alone come before those that need every
    formation, so that the lakehouse grows once; those of Milvus alone, which shrink it, come after all others.
    """
    grows = list(_GROWS)

    def place(item: pytest.Item) -> tuple[bool, int]:
        fixtures = getattr(item, "fixturenames", ())
        return bool(item.get_closest_marker("last")), max(grows.index(one) if one in fixtures else 0 for one in grows)

    needs = {item: _needs(item) for item in items}
    wanted = set(config.getoption("engine"))
    if wanted and wanted < {formation.name for formation in FORMATIONS}:
        left_out = [item for item in items if needs[item] - wanted]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not needs[item] - wanted]
    items.sort(key=place)
    for item in items:
        if item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.fixture(autouse=True)
def _no_fault_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Heal what a test on the cluster left broken, and let that test fail for it and not all that come after."""
    yield
    if request.node.get_closest_marker("cluster"):
        left = [f"{undo.fault} in {', '.join(undo.zones)}" for undo in outstanding(region_named(REGION))]
        if left:
            pytest.fail(f"{'; '.join(left)} was left, and healed: {chaos('recover', '--region', REGION).said}")


@pytest.fixture(scope="session")
def shared() -> Iterator[Shared]:
    """Return the region of the shared cluster, which is up, and whether it goes with the tests, which made it.

    One that was up before has the formations that it had when the tests are done.
    """
    chosen, engine = region_named(REGION), find_engine()
    made = clusters.up(chosen, lambda engine: node_images(engine, "auto"))
    before = () if made else _deployed(chosen)
    yield chosen, made
    if made:
        clusters.down(chosen, engine)
    elif before:
        Lakehouse.deployed(chosen, made, before)


def _deployed(region: Region) -> tuple[Formation, ...]:
    try:
        return deployed(api_client(region.kubeconfig))
    except ApiException as error:
        if error.status != httpx.codes.NOT_FOUND:
            raise
        return ()


@pytest.fixture(scope="session")
def region(shared: Shared) -> Region:
    """Return the region of the shared cluster, which is up."""
    return shared[0]


@pytest.fixture(scope="session")
def mds_alone(shared: Shared) -> Lakehouse:
    """Return the shared region with MDS up, for tests that would only wait for the other formations."""
    return Lakehouse.deployed(*shared, (MDS,))


@pytest.fixture(scope="session")
def lakehouse(shared: Shared, request: pytest.FixtureRequest) -> Lakehouse:
    """Return the shared region with its whole lakehouse up, or as much of it as the tests are of."""
    return Lakehouse.deployed(*shared, tuple(named(request.config.getoption("engine"))))


@pytest.fixture(scope="session")
def milvus_alone(shared: Shared) -> Iterator[Lakehouse]:
    """Return the shared region with nothing but Milvus, for tests after which its metadata is of no use."""
    region, made = shared
    lakehouse = Lakehouse.deployed(region, made, (MILVUS,))
    yield lakehouse
    if not made:
        # what comes up again begins with nothing of it
        down(region, lakehouse.engine)
