"""The formations as manifests, and the provider's services as descriptions."""

from __future__ import annotations

from typing import Any

import pytest
from formation_values import VALUES, rendered
from kubernetes.utils.quantity import parse_quantity
from mds_lab import program

from gameday.errors import UsageError
from gameday.paths import PROJECT
from gameday.topology import load_topology
from lakehouse import provider
from lakehouse.formation import RUNNING, Formation, FormationValues, instance, render
from lakehouse.formations import FORMATIONS
from lakehouse.mds.settings import read_settings
from lakehouse.mds_formation import MDS
from lakehouse.milvus.settings import read_settings as read_milvus_settings
from lakehouse.milvus_formation import ETCD, KAFKA, MILVUS
from lakehouse.volumes import STORAGE_CLASS, volumes


def objects(values: FormationValues = VALUES) -> dict[str, dict[str, Any]]:
    """Return the rendered objects by their kind."""
    return {item["kind"]: item for item in render(MDS, values, program("kubectl"))}


def pod(values: FormationValues = VALUES) -> dict[str, Any]:
    """Return the pod template."""
    template: dict[str, Any] = objects(values)["Deployment"]["spec"]["template"]
    return template


@pytest.mark.parametrize("formation", FORMATIONS, ids=lambda formation: formation.name)
def test_settings_come_before_pods_and_all_carry_the_name_of_their_formation(formation: Formation) -> None:
    """Objects are in an order in which each finds what it needs; label and CRN say what belongs together."""
    made = render(formation, VALUES, program("kubectl"))
    kinds = [item["kind"] for item in made]
    assert kinds.index("Deployment") > max(kinds.index("ConfigMap"), kinds.index("Secret"))
    assert {item["metadata"]["labels"]["lakehouse/formation"] for item in made} == {formation.name}
    crns = {item["metadata"]["annotations"]["lakehouse/crn"] for item in made}
    assert crns == {f"crn:v1:chaos:public:lakehouse:east:a/chaos:{formation.name}"}
    (namespace,) = instance("east", ["mds", "spark"])
    assert namespace["metadata"]["annotations"]["lakehouse/crn"].endswith(":instance")
    assert namespace["metadata"]["annotations"]["lakehouse/formations"] == "mds,spark"


@pytest.mark.parametrize("formation", FORMATIONS, ids=lambda formation: formation.name)
def test_a_formation_is_what_its_manifests_say(formation: Formation) -> None:
    """Replicas, image, requests, entrance: the list of formations and the manifests agree."""
    made = render(formation, VALUES, program("kubectl"))
    running = [item for item in made if item["kind"] in RUNNING]
    assert {item["metadata"]["name"]: item["spec"]["replicas"] for item in running} == formation.parts
    for item in running:
        template = item["spec"]["template"]
        assert template["metadata"]["labels"]["app.kubernetes.io/name"] == item["metadata"]["name"]
        assert template["metadata"]["labels"]["lakehouse/formation"] == formation.name
        containers = template["spec"]["containers"] + template["spec"].get("initContainers", [])
        assert {one["image"] for one in containers} == {VALUES.images[formation.name]}
        assert all({"cpu", "memory"} <= set(one["resources"]["requests"]) for one in template["spec"]["containers"])
        claims = [one["spec"]["storageClassName"] for one in item["spec"].get("volumeClaimTemplates", [])]
        assert claims == ([STORAGE_CLASS] if item["metadata"]["name"] in formation.stateful else [])
    ports = [port for item in made if item["kind"] == "Service" for port in item["spec"]["ports"]]
    assert formation.entrance.node_port in [port.get("nodePort") for port in ports]
    covered = [item["spec"]["selector"]["matchLabels"] for item in made if item["kind"] == "PodDisruptionBudget"]
    several = {name for name, count in formation.parts.items() if count > 1}
    assert several <= {labels["app.kubernetes.io/name"] for labels in covered}


def test_a_node_has_no_room_for_all_that_three_zones_hold() -> None:
    """The declared size of a node against the requests of all formations: with two zones lost the last one is short."""
    node = load_topology(PROJECT / "kind-config.yaml").config["nodes"][1]["labels"]["lakehouse-chaos/memory"]
    asked = 0
    for formation in FORMATIONS:
        for item in render(formation, VALUES, program("kubectl")):
            if item["kind"] == "Deployment":
                containers = item["spec"]["template"]["spec"]["containers"]
                memory = sum(parse_quantity(one["resources"]["requests"]["memory"]) for one in containers)
                asked += int(memory) * item["spec"]["replicas"]
    # a Spark job of a driver and one executor runs beside them whenever a zone is lost
    assert asked + 1300 * 2**20 > parse_quantity(node)


def test_mds_accepts_the_settings_that_it_is_given() -> None:
    """What ConfigMap and Secret say, the service reads; the keys are in the Secret alone."""
    made = objects()
    public, secret = made["ConfigMap"]["data"], made["Secret"]["stringData"]
    read = read_settings({**public, **secret, "POD_NAME": "mds-0"})
    assert read.max_concurrent_requests == 9
    assert (read.database.host, read.database.password) == ("10.89.0.7", "pw-of-database")
    assert read.s3_endpoint == "http://10.89.0.8:7070"
    assert not {"pw-of-database", "key", "secret"} & set(public.values())
    assert pod()["spec"]["enableServiceLinks"] is False  # else Kubernetes overwrites MDS_PORT


def test_milvus_accepts_the_settings_that_it_is_given_and_finds_its_members() -> None:
    """What ConfigMap and Secret say, the service reads; etcd and brokers have the names that it is told."""
    made = rendered(MILVUS)
    public, secret = made["ConfigMap", "milvus"]["data"], made["Secret", "milvus"]["stringData"]
    read = read_milvus_settings({**public, **secret, "POD_NAME": "milvus-0"})
    assert read.etcd_endpoints == tuple(f"{ETCD}-{number}.{ETCD}:2379" for number in range(3))
    assert read.s3_endpoint == "http://10.89.0.8:7070"
    assert not {"key", "secret"} & set(public.values())
    command = made["StatefulSet", ETCD]["spec"]["template"]["spec"]["containers"][0]["command"]
    peers = ",".join(f"{ETCD}-{number}=http://{ETCD}-{number}.{ETCD}:2380" for number in range(3))
    assert f"--initial-cluster={peers}" in command
    broker = made["StatefulSet", KAFKA]["spec"]["template"]["spec"]["containers"][0]["env"]
    controllers = next(one["value"] for one in broker if one["name"] == "KAFKA_CONTROLLERS")
    assert controllers == ",".join(f"{number}@{KAFKA}-{number}.{KAFKA}:9093" for number in range(3))


def test_every_node_has_volumes_that_it_alone_can_mount() -> None:
    """As many as asked for, each with a folder of its own."""
    storage_class, *made = volumes(["node-1", "node-2"], 2)
    assert storage_class["metadata"]["name"] == STORAGE_CLASS
    assert [item["metadata"]["name"] for item in made] == ["node-1-0", "node-1-1", "node-2-0", "node-2-1"]
    assert made[0]["spec"]["local"]["path"] != made[1]["spec"]["local"]["path"]
    (term,) = made[2]["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-2"]}]


def test_other_settings_are_rolled_out() -> None:
    """Pods read their settings once, so other settings make another template; the same ones do not."""
    other = FormationValues(**{**VALUES.__dict__, "max_concurrent_requests": 0})
    assert pod() == pod()
    assert pod()["metadata"]["annotations"] != pod(other)["metadata"]["annotations"]


def test_there_is_time_to_drain() -> None:
    """A pod is given longer to end than it drains and finishes."""
    drain_s = int(objects()["ConfigMap"]["data"]["MDS_DRAIN_SECONDS"])
    assert pod()["spec"]["terminationGracePeriodSeconds"] > drain_s + 10


KEYS = provider.Keys("key", "secret")


def test_a_service_is_described_for_its_region() -> None:
    """Names begin with the region, and the password travels in the environment, not on the command line."""
    database = provider.database("east", "image", "pw-of-database", "pw-of-console", "pw-of-backup", KEYS)
    assert database.name == "east-postgres"
    assert "pw-of-database" in database.environment.values()
    assert not any("pw-of-database" in part for part in database.command)
    assert provider.object_store("east", "image", KEYS).name == "east-object-store"


@pytest.mark.parametrize("password", ["", "a'; DROP TABLE x", "with space", "at@host"])
def test_an_odd_password_is_refused(password: str) -> None:
    """What would change the meaning of SQL or a URL is no password."""
    with pytest.raises(UsageError, match="database password"):
        provider.database("east", "image", password, "pw-of-console", "pw-of-backup", KEYS)


def test_a_load_balancer_without_nodes_is_refused() -> None:
    """Nothing to balance is an error, not an empty list."""
    with pytest.raises(UsageError, match="at least one node"):
        provider.load_balancer("east", "image", [])
