"""Milvus as its project publishes it, in place of the replicas of the stand-in.

Each of the three pods has all roles of a Milvus cluster, a container each, so that pods, names, zones and ports stay
what load, probes, faults and judge know. etcd, Kafka and the bucket stay, with the same root path; of the coordinators
one is active, and those of the other pods stand by.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import yaml
from kubernetes.utils.quantity import parse_quantity

from lakehouse.formation import FormationValues
from lakehouse.provider import OBJECT_STORE_PORT, REGION_OF_STORE, VECTOR_BUCKET
from lakehouse.upstream import MILVUS_IMAGE

ETCD_ROOT = "by-dev"
# Milvus reads it after its own settings, so what is in it counts.
SETTINGS = "user.yaml"
_SETTINGS_PATH = f"/milvus/configs/{SETTINGS}"
_RESOURCE_GROUP = "__default_resource_group"
# Files of the image are root's, and its program may be carried out by their group and not by others.
_GROUP_OF_FILES = 0
# Milvus has the broker make its topics. What is acknowledged has to be on two of three brokers, as the stand-in
# declares of its own topic; and a message of Milvus may be larger than a broker takes by itself.
_BROKER = "auto.create.topics.enable=true min.insync.replicas=2 message.max.bytes=10485760"


@dataclass(frozen=True)
class Role:
    """One role of a Milvus cluster: its port for health and metrics, its memory, and what it is told besides."""

    name: str
    health_port: int
    requests: str
    limit: str
    environment: tuple[tuple[str, str], ...] = ()


def _roles(health_port: int) -> tuple[Role, ...]:
    """Return the roles; they share the addresses of a pod, so no two may listen on the same port."""
    return (
        Role("proxy", health_port, "96Mi", "512Mi"),
        Role("mixcoord", health_port + 1, "160Mi", "1Gi"),
        Role("querynode", health_port + 2, "160Mi", "1Gi"),
        # it has a query node within, which would listen where the other one does
        Role("streamingnode", health_port + 3, "160Mi", "1Gi", (("QUERYNODE_PORT", "21125"),)),
        Role("datanode", health_port + 4, "64Mi", "1Gi"),
    )


@dataclass(frozen=True)
class Figures:
    """What both servers are told alike: addresses with commas, root path, port, and what is declared of them."""

    etcd_endpoints: str
    kafka_brokers: str
    root_path: str
    port: int
    replicas: int
    session_ttl_s: int
    flush_every_s: int


def milvus_settings(values: FormationValues, figures: Figures) -> dict[str, str]:
    """Return the data of the ConfigMap."""
    settings = {
        "etcd": {"endpoints": figures.etcd_endpoints, "rootPath": ETCD_ROOT},
        "mq": {"type": "kafka"},
        "kafka": {"brokerList": figures.kafka_brokers, "securityProtocol": "PLAINTEXT"},
        "minio": {
            "address": values.object_store_address,
            "port": OBJECT_STORE_PORT,
            "bucketName": VECTOR_BUCKET,
            "rootPath": figures.root_path,
            "region": REGION_OF_STORE,
            "cloudProvider": "aws",
            "useSSL": False,
            "useVirtualHost": False,
        },
        "mixCoord": {"enableActiveStandby": True},
        "proxy": {"port": figures.port},
        # each pod can answer each search, as a replica of the stand-in can
        "queryCoord": {
            "clusterLevelLoadReplicaNumber": figures.replicas,
            "clusterLevelLoadResourceGroups": _RESOURCE_GROUP,
        },
        "dataNode": {"segment": {"syncPeriod": figures.flush_every_s}},
        "common": {"session": {"ttl": figures.session_ttl_s}},
    }
    return {SETTINGS: yaml.safe_dump(settings, sort_keys=False)}


def milvus_secrets(values: FormationValues) -> dict[str, str]:
    """Return the data of the Secret, which Milvus reads from its environment."""
    return {"MINIO_ACCESS_KEY_ID": values.object_store_key, "MINIO_SECRET_ACCESS_KEY": values.object_store_secret}


def milvus_pod(spec: dict[str, Any]) -> None:
    """Have a pod of the stand-in run Milvus's roles, and a broker do what Milvus needs; etcd's stays as it is."""
    (container,) = spec["containers"]
    if container["name"] == "kafka":
        container["env"].append({"name": "KAFKA_MORE", "value": _BROKER})
    elif container["name"] == "milvus":
        (config_map,) = (one["configMapRef"]["name"] for one in container["envFrom"] if "configMapRef" in one)
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        roles = _roles(ports["health"])
        # together they ask for the CPU of the stand-in, so that what fits into a zone stays the same
        cpu = f"{int(parse_quantity(container['resources']['requests']['cpu']) * 1000) // len(roles)}m"
        spec["containers"] = [_container(container, role, cpu) for role in roles]
        spec["volumes"].append({"name": "settings", "configMap": {"name": config_map}})
        spec["securityContext"]["runAsGroup"] = _GROUP_OF_FILES


def _container(stand_in: dict[str, Any], role: Role, cpu: str) -> dict[str, Any]:
    """Return the container of a role; probes, rights and the Secret are those of the stand-in's."""
    made = copy.deepcopy(stand_in)
    del made["command"]
    made |= {"name": role.name, "image": MILVUS_IMAGE, "args": ["milvus", "run", role.name]}
    made["envFrom"] = [one for one in made["envFrom"] if "secretRef" in one]
    more = {
        "METRICS_PORT": str(role.health_port), "MILVUS_STREAMING_SERVICE_ENABLED": "1", **dict(role.environment)
    }  # fmt: skip
    made["env"] += [{"name": name, "value": value} for name, value in more.items()]
    if role.name != "proxy":
        # clients enter by the proxy alone
        made["ports"] = [{"containerPort": role.health_port}]
    for probe in ("startupProbe", "readinessProbe"):
        made[probe]["httpGet"]["port"] = role.health_port
    made["volumeMounts"] = [
        {"name": "settings", "mountPath": _SETTINGS_PATH, "subPath": SETTINGS, "readOnly": True},
        {"name": "data", "mountPath": "/var/lib/milvus", "subPath": f"{role.name}-data"},
        {"name": "data", "mountPath": "/tmp", "subPath": f"{role.name}-tmp"},  # noqa: S108 - of the pod
    ]
    made["resources"] = {"requests": {"cpu": cpu, "memory": role.requests}, "limits": {"memory": role.limit}}
    return made
