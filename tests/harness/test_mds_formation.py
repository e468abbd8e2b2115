"""The formation of MDS as manifests, and the provider's services as descriptions."""

from __future__ import annotations

from typing import Any

import pytest
from mds_lab import program

from gameday.errors import UsageError
from lakehouse import provider
from lakehouse.formation import FormationValues, render
from lakehouse.mds.settings import read_settings

VALUES = FormationValues(
    image="localhost/lakehouse/mds:abc",
    database_address="10.89.0.7",
    database_password="pw-of-database",  # noqa: S106 - of nothing that exists
    object_store_address="10.89.0.8",
    object_store_key="key",
    object_store_secret="secret",  # noqa: S106 - of nothing that exists
)


def objects(values: FormationValues = VALUES) -> dict[str, dict[str, Any]]:
    """Return the rendered objects by their kind."""
    return {item["kind"]: item for item in render(values, program("kubectl"))}


def pod(values: FormationValues = VALUES) -> dict[str, Any]:
    """Return the pod template."""
    template: dict[str, Any] = objects(values)["Deployment"]["spec"]["template"]
    return template


def test_the_namespace_comes_first_and_settings_before_pods() -> None:
    """Objects are in an order in which each finds what it needs."""
    kinds = list(objects())
    assert kinds[:3] == ["Namespace", "ConfigMap", "Secret"]
    assert set(kinds[3:]) == {"Deployment", "Service", "PodDisruptionBudget"}


def test_all_containers_have_the_image_asked_for() -> None:
    """Also the one that migrates."""
    spec = pod()["spec"]
    assert {item["image"] for item in spec["containers"] + spec["initContainers"]} == {VALUES.image}


def test_mds_accepts_the_settings_that_it_is_given() -> None:
    """What ConfigMap and Secret say, the service reads; the keys are in the Secret alone."""
    made = objects()
    public, secret = made["ConfigMap"]["data"], made["Secret"]["stringData"]
    read = read_settings({**public, **secret, "POD_NAME": "mds-0"})
    assert read.max_concurrent_requests == 8
    assert (read.database.host, read.database.password) == ("10.89.0.7", "pw-of-database")
    assert read.s3_endpoint == "http://10.89.0.8:7070"
    assert not {"pw-of-database", "key", "secret"} & set(public.values())
    assert pod()["spec"]["enableServiceLinks"] is False  # else Kubernetes overwrites MDS_PORT


def test_other_settings_are_rolled_out() -> None:
    """Pods read their settings once, so other settings make another template; the same ones do not."""
    other = FormationValues(**{**VALUES.__dict__, "max_concurrent_requests": 0})
    assert pod() == pod()
    assert pod()["metadata"]["annotations"] != pod(other)["metadata"]["annotations"]


def test_there_is_time_to_drain() -> None:
    """A pod is given longer to end than it drains and finishes."""
    drain_s = int(objects()["ConfigMap"]["data"]["MDS_DRAIN_SECONDS"])
    assert pod()["spec"]["terminationGracePeriodSeconds"] > drain_s + 10


def test_a_node_has_room_for_two_replicas_and_not_for_three() -> None:
    """The declared size of a node (1Gi) against the requests: with two zones lost the third replica has no room."""
    requested = pod()["spec"]["containers"][0]["resources"]["requests"]["memory"]
    mebibytes = int(requested.removesuffix("Mi"))
    assert 2 * mebibytes < 1024 < 3 * mebibytes


def test_the_load_balancer_meets_the_service() -> None:
    """The port behind the load balancer is the Service's port of every node."""
    (port,) = objects()["Service"]["spec"]["ports"]
    backend = provider.Backend("zone-a-1", "10.89.0.3")
    assert f"server zone-a-1 10.89.0.3:{port['nodePort']}" in provider.load_balancer_config([backend])


def test_a_service_is_described_for_its_region() -> None:
    """Names begin with the region, and the password travels in the environment, not on the command line."""
    database = provider.database("east", "image", "pw-of-database")
    assert database.name == "east-postgres"
    assert "pw-of-database" in database.environment.values()
    assert not any("pw-of-database" in part for part in database.command)
    assert provider.object_store("east", "image", "key", "secret").name == "east-object-store"


@pytest.mark.parametrize("password", ["", "a'; DROP TABLE x", "with space", "at@host"])
def test_an_odd_password_is_refused(password: str) -> None:
    """What would change the meaning of SQL or a URL is no password."""
    with pytest.raises(UsageError, match="database password"):
        provider.database("east", "image", password)


def test_a_load_balancer_without_nodes_is_refused() -> None:
    """Nothing to balance is an error, not an empty list."""
    with pytest.raises(UsageError, match="at least one node"):
        provider.load_balancer("east", "image", [])
