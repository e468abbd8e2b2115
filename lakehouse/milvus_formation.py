"""The formation of Milvus: the settings of its replicas, and what it declares.

The server is a stand-in (`lakehouse/milvus`), which no registry is needed for, or Milvus itself
(`lakehouse/milvus_upstream.py`); etcd and Kafka are real with both.
"""

from __future__ import annotations

from typing import Any

from lakehouse.formation import Entrance, Formation, FormationValues, ImageSource, config_map, secret
from lakehouse.milvus_upstream import Figures, milvus_pod, milvus_secrets, milvus_settings
from lakehouse.provider import OBJECT_STORE_PORT, REGION_OF_STORE, VECTOR_BUCKET

NAME = "milvus"
ETCD, KAFKA = "milvus-etcd", "milvus-kafka"
# Of replicas one a zone, so that each zone lost takes one along, with the searches that are in flight there.
MEMBERS, REPLICAS = 3, 3
PORT, NODE_PORT = 19530, 30530
HEALTH_PORT, HEALTH_NODE_PORT, HEALTH = 9091, 30991, "/healthz"
# Where in the customer's bucket Milvus keeps its segments.
ROOT_PATH = "files"
# A replica that etcd has not heard of for so long has lost its session, and ends.
SESSION_TTL_S = 10
FLUSH_EVERY_S = 10
# The health page searches, and a search waits while Kafka elects a leader, in all replicas at once. That may take as
# long as so many checks do (two seconds to wait for an answer, and half a second between), or clients would be refused
# by all. A dead machine is noticed sooner, by the connections to it.
CHECKS_TO_FALL, CHECK_TIMEOUT_MS = 4, 2000


def config(values: FormationValues) -> list[dict[str, Any]]:
    """Return the ConfigMap and the Secret that a replica reads its settings from."""
    etcd = ",".join(f"{ETCD}-{number}.{ETCD}:2379" for number in range(MEMBERS))
    kafka = ",".join(f"{KAFKA}-{number}.{KAFKA}:9092" for number in range(MEMBERS))
    if values.source is ImageSource.UPSTREAM:
        figures = Figures(etcd, kafka, ROOT_PATH, PORT, REPLICAS, SESSION_TTL_S, FLUSH_EVERY_S)
        made = milvus_settings(values, figures), milvus_secrets(values)
    else:
        made = _of_stand_in(values, etcd, kafka)
    settings, secrets = made
    return [config_map(NAME, NAME, settings), secret(NAME, NAME, secrets)]


def _of_stand_in(values: FormationValues, etcd: str, kafka: str) -> tuple[dict[str, str], dict[str, str]]:
    settings = {
        "MILVUS_ETCD_ENDPOINTS": etcd,
        "MILVUS_KAFKA_BROKERS": kafka,
        "MILVUS_LOG_COPIES": str(MEMBERS),
        "MILVUS_BUCKET": VECTOR_BUCKET,
        "MILVUS_ROOT_PATH": ROOT_PATH,
        "MILVUS_S3_ENDPOINT": f"http://{values.object_store_address}:{OBJECT_STORE_PORT}",
        "MILVUS_S3_REGION": REGION_OF_STORE,
        "MILVUS_DATA": "/tmp/milvus",  # noqa: S108 - a folder of the pod, which ends with it
        "MILVUS_PORT": str(PORT),
        "MILVUS_HEALTH_PORT": str(HEALTH_PORT),
        "MILVUS_SESSION_TTL_SECONDS": str(SESSION_TTL_S),
        "MILVUS_FLUSH_SECONDS": str(FLUSH_EVERY_S),
    }
    secrets = {"MILVUS_S3_ACCESS_KEY": values.object_store_key, "MILVUS_S3_SECRET_KEY": values.object_store_secret}
    return settings, secrets


MILVUS = Formation(
    name=NAME,
    deployments={NAME: REPLICAS},
    stateful={ETCD: MEMBERS, KAFKA: MEMBERS},
    entrance=Entrance(
        PORT,
        NODE_PORT,
        HEALTH,
        falls=CHECKS_TO_FALL,
        check_timeout_ms=CHECK_TIMEOUT_MS,
        health_port=HEALTH_PORT,
        health_node_port=HEALTH_NODE_PORT,
    ),
    config=config,
    upstream=milvus_pod,
    declared={"milvus.session-ttl_s": SESSION_TTL_S, "milvus.flush-every_s": FLUSH_EVERY_S},
)
