"""Milvus as it is published, in place of the stand-in: what is rendered fits together, and takes the same place."""

from __future__ import annotations

import dataclasses
import re
import runpy
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from formation_values import VALUES, Objects, rendered
from kubernetes.utils.quantity import parse_quantity

from gameday.paths import PROJECT
from lakehouse.formation import RUNNING, FormationValues, ImageSource, images_of
from lakehouse.milvus.settings import read_settings
from lakehouse.milvus_formation import ETCD, KAFKA, MILVUS, NAME
from lakehouse.upstream import MILVUS_IMAGE

pytestmark = pytest.mark.needs("milvus")

UPSTREAM = dataclasses.replace(VALUES, source=ImageSource.UPSTREAM)
BROKER = PROJECT / "lakehouse" / "kafka" / "broker.py"
ROLES = ["proxy", "mixcoord", "querynode", "streamingnode", "datanode"]
SETTINGS_FILE = "/milvus/configs/user.yaml"
# Where a role listens for other roles by Milvus's own settings, and the port within of the proxy.
QUERY_NODE_PORT = 21123
INNER_PORTS = [53100, 19529, QUERY_NODE_PORT, 22222, 21124]

REFERENCES = {
    "configMap": ("ConfigMap", "name"),
    "configMapRef": ("ConfigMap", "name"),
    "configMapKeyRef": ("ConfigMap", "name"),
    "secret": ("Secret", "secretName"),
    "secretRef": ("Secret", "name"),
    "secretKeyRef": ("Secret", "name"),
}


def milvus(values: FormationValues = UPSTREAM) -> Objects:
    """Return the objects of the formation by kind and name."""
    return rendered(MILVUS, values)


def pod(objects: Objects) -> dict[str, Any]:
    """Return the template of the pods that clients speak to."""
    template: dict[str, Any] = objects["Deployment", NAME]["spec"]["template"]
    return template


def containers(objects: Objects) -> dict[str, dict[str, Any]]:
    """Return the containers of such a pod by name."""
    return {one["name"]: one for one in pod(objects)["spec"]["containers"]}


def environment(container: dict[str, Any]) -> dict[str, str]:
    """Return what a container is told by name, without what Kubernetes fills in."""
    return {one["name"]: one["value"] for one in container["env"] if "value" in one}


def settings(objects: Objects) -> dict[str, Any]:
    """Return what Milvus reads from its file."""
    read: dict[str, Any] = yaml.safe_load(objects["ConfigMap", NAME]["data"]["user.yaml"])
    return read


def referred(part: object) -> Iterator[tuple[str, str]]:
    """Yield kind and name of each ConfigMap and Secret that a part of a pod reads, wherever it says so."""
    if isinstance(part, list):
        for one in part:
            yield from referred(one)
    if isinstance(part, dict):
        for key, one in part.items():
            if key in REFERENCES:
                kind, field = REFERENCES[key]
                yield kind, one[field]
            else:
                yield from referred(one)


def test_each_pod_runs_all_roles_from_one_pinned_image() -> None:
    """Each role by Milvus's own program, from a patch of 2.6 that is named; etcd and Kafka are the stand-in's."""
    made = milvus()
    found = containers(made)
    assert list(found) == ROLES
    assert {one["image"] for one in found.values()} == {MILVUS_IMAGE}
    assert re.fullmatch(r"milvusdb/milvus:v2\.6\.\d+", MILVUS_IMAGE)
    for role, one in found.items():
        # the program that the image begins with stays in place, and is handed these words
        assert ("command" in one, one["args"]) == (False, ["milvus", "run", role])
        assert environment(one)["MILVUS_STREAMING_SERVICE_ENABLED"] == "1"
    for name in (ETCD, KAFKA):
        assert images_of(made["StatefulSet", name]) == [VALUES.images[NAME]]


def test_what_deploying_and_judging_count_stays_the_same() -> None:
    """Names, labels, replicas, spread over the zones and budgets; experiments have nine pods of it in any case."""
    ours, theirs = milvus(VALUES), milvus()
    running = {key[1]: item["spec"]["replicas"] for key, item in theirs.items() if key[0] in RUNNING}
    assert running == MILVUS.parts
    assert pod(ours)["metadata"]["labels"] == pod(theirs)["metadata"]["labels"]
    (spread,) = pod(theirs)["spec"]["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["maxSkew"]) == ("topology.kubernetes.io/zone", 1)
    assert spread["labelSelector"]["matchLabels"].items() <= pod(theirs)["metadata"]["labels"].items()
    for key, item in ours.items():
        if key[0] in ("Service", "PodDisruptionBudget"):
            assert item == theirs[key]


def test_every_config_map_and_secret_is_there_and_is_read() -> None:
    """By every role: the file where Milvus looks for it, the keys in the environment; and none is there for nothing."""
    made = milvus()
    there = {key for key in made if key[0] in ("ConfigMap", "Secret")}
    used = {one for key, item in made.items() if key[0] in RUNNING
            for one in referred(item["spec"]["template"]["spec"])}  # fmt: skip
    assert used == there == {("ConfigMap", NAME), ("Secret", NAME)}
    volumes = {one["name"]: one for one in pod(made)["spec"]["volumes"]}
    for container in containers(made).values():
        (mount,) = (one for one in container["volumeMounts"] if one["mountPath"] == SETTINGS_FILE)
        assert mount["subPath"] in made[("ConfigMap", volumes[mount["name"]]["configMap"]["name"])]["data"]
        assert [one["secretRef"]["name"] for one in container["envFrom"]] == [NAME]
        assert all(one["name"] in volumes for one in container["volumeMounts"])
    keys = made["Secret", NAME]["stringData"]
    assert keys == {"MINIO_ACCESS_KEY_ID": "key", "MINIO_SECRET_ACCESS_KEY": "secret"}
    assert "secret" not in made["ConfigMap", NAME]["data"]["user.yaml"].lower()


def test_clients_enter_at_the_proxy_by_the_same_ports() -> None:
    """The Service finds the pods, and its ports are those of the proxy, which alone is named and so found."""
    made = milvus()
    service, labels = made["Service", NAME]["spec"], pod(made)["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    named = {one["name"]: (container["name"], one["containerPort"])
             for container in containers(made).values() for one in container["ports"] if "name" in one}  # fmt: skip
    assert {one["port"]: named[one["targetPort"]] for one in service["ports"]} == {
        19530: ("proxy", 19530),
        9091: ("proxy", 9091),
    }
    assert settings(made)["proxy"]["port"] == 19530
    entrance = MILVUS.entrance
    nodes = {one["port"]: one["nodePort"] for one in service["ports"]}
    assert nodes == {entrance.port: entrance.node_port, entrance.health_port: entrance.health_node_port}


def test_each_role_answers_for_itself_and_none_takes_anothers_port() -> None:
    """Roles of a pod share its addresses, so each has a port of its own for its health, and is asked there."""
    found = containers(milvus())
    health = {role: int(environment(one)["METRICS_PORT"]) for role, one in found.items()}
    assert health["proxy"] == MILVUS.entrance.health_port
    query_nodes = [int(environment(one).get("QUERYNODE_PORT", QUERY_NODE_PORT))
                   for role, one in found.items() if role in ("querynode", "streamingnode")]  # fmt: skip
    ports = [*health.values(), MILVUS.entrance.port, *query_nodes, *(set(INNER_PORTS) - {QUERY_NODE_PORT})]
    assert [port for port, count in Counter(ports).items() if count > 1] == []
    for role, one in found.items():
        assert health[role] in [port["containerPort"] for port in one["ports"]]
        for probe in ("startupProbe", "readinessProbe"):
            assert one[probe]["httpGet"] == {"path": MILVUS.entrance.check, "port": health[role]}


def test_it_works_on_what_the_stand_in_works_on() -> None:
    """The same etcd, Kafka, bucket and root paths: addresses are those that the stand-in reads."""
    built = milvus(VALUES)
    public, secret = built["ConfigMap", NAME]["data"], built["Secret", NAME]["stringData"]
    ours, theirs = read_settings({**public, **secret, "POD_NAME": "milvus-0"}), settings(milvus())
    assert theirs["etcd"] == {"endpoints": ",".join(ours.etcd_endpoints), "rootPath": ours.etcd_root}
    assert theirs["mq"]["type"] == "kafka"
    assert theirs["kafka"] == {"brokerList": public["MILVUS_KAFKA_BROKERS"], "securityProtocol": "PLAINTEXT"}
    store = theirs["minio"]
    scheme = "https" if store["useSSL"] else "http"
    assert f"{scheme}://{store['address']}:{store['port']}" == public["MILVUS_S3_ENDPOINT"]
    assert (store["bucketName"], store["rootPath"]) == (public["MILVUS_BUCKET"], public["MILVUS_ROOT_PATH"])
    assert store["region"] == public["MILVUS_S3_REGION"]


def test_what_is_declared_holds_for_it_too() -> None:
    """Life of a session, time between flushes; every pod has what is searched, and a coordinator stands by."""
    made = settings(milvus())
    assert made["common"]["session"]["ttl"] == MILVUS.declared["milvus.session-ttl_s"]
    assert made["dataNode"]["segment"]["syncPeriod"] == MILVUS.declared["milvus.flush-every_s"]
    assert made["mixCoord"]["enableActiveStandby"] is True
    assert made["queryCoord"]["clusterLevelLoadReplicaNumber"] == MILVUS.deployments[NAME]
    # Milvus takes the number only with the name of a resource group
    assert made["queryCoord"]["clusterLevelLoadResourceGroups"]


def test_roles_keep_out_of_each_others_files() -> None:
    """Each has its own folder for data and one for what passes; nothing else can be written, and nobody is root."""
    made = milvus()
    writable = [(one["name"], one["subPath"]) for container in containers(made).values()
                for one in container["volumeMounts"] if not one.get("readOnly")]  # fmt: skip
    assert len(writable) == len(set(writable)) == 2 * len(ROLES)
    rights = pod(made)["spec"]["securityContext"]
    assert (rights["runAsNonRoot"], rights["runAsGroup"]) == (True, 0)
    assert rights["runAsUser"] != 0
    assert all(one["securityContext"]["readOnlyRootFilesystem"] for one in containers(made).values())


def test_every_role_says_what_it_asks_for() -> None:
    """Of CPU together what the stand-in asks for, so that as much fits into a zone; memory has a limit, too."""
    ours, theirs = containers(milvus(VALUES)), containers(milvus())
    asked = sum(parse_quantity(one["resources"]["requests"]["cpu"]) for one in theirs.values())
    assert asked == parse_quantity(ours[NAME]["resources"]["requests"]["cpu"])
    for one in theirs.values():
        resources = one["resources"]
        assert 0 < parse_quantity(resources["requests"]["memory"]) <= parse_quantity(resources["limits"]["memory"])


@pytest.mark.parametrize(("values", "makes_topics"), [(VALUES, "false"), (UPSTREAM, "true")])
def test_brokers_make_topics_where_milvus_expects_it(values: FormationValues, makes_topics: str) -> None:
    """With three copies, of which two acknowledge; for the stand-in, which makes its topic itself, they do not."""
    (container,) = milvus(values)["StatefulSet", KAFKA]["spec"]["template"]["spec"]["containers"]
    made = runpy.run_path(str(BROKER))["properties"]({**environment(container), "KAFKA_NODE_ID": "0"})
    assert made["auto.create.topics.enable"] == makes_topics
    assert made["default.replication.factor"] == "3"
    assert made.get("min.insync.replicas") == ("2" if makes_topics == "true" else None)


def test_etcd_is_the_same() -> None:
    """But for the digest of the settings, by which all pods of a formation are rolled out."""
    ours, theirs = (milvus(values)["StatefulSet", ETCD] for values in (VALUES, UPSTREAM))
    for item in (ours, theirs):
        del item["spec"]["template"]["metadata"]["annotations"]["lakehouse/settings"]
    assert ours == theirs
