"""What a replica is told by its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lakehouse.environment import number, required


@dataclass(frozen=True)
class Settings:
    """Settings of one replica.

    etcd_endpoints  HOST:PORT of each member; etcd_root is the first part of every key (`by-dev` as in Milvus)
    kafka_brokers   HOST:PORT of brokers to begin with; channel is the name of the log's topic, on log_copies of them
    bucket, root_path   where segments lie in the object store
    data            a folder of this replica's own, emptied when it begins
    port, health_port   of the gRPC service and of the health page
    session_ttl_s   how long etcd keeps the replica's session without hearing of it; without its session it ends
    flush_every_s   how often rows that are only in the log are flushed to a segment
    append_deadline_s   how long a write is tried to be put into the log before it has failed
    """

    etcd_endpoints: tuple[str, ...]
    etcd_root: str
    kafka_brokers: str
    channel: str
    log_copies: int
    bucket: str
    root_path: str
    s3_endpoint: str
    s3_access_key: str
    s3_secret_key: str
    s3_region: str
    data: Path
    port: int
    health_port: int
    session_ttl_s: int
    flush_every_s: int
    append_deadline_s: int
    replica: str


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings that MILVUS_* and POD_NAME describe; raises SettingsError for one missing or wrong."""
    return Settings(
        etcd_endpoints=tuple(required(environment, "MILVUS_ETCD_ENDPOINTS").split(",")),
        etcd_root=environment.get("MILVUS_ETCD_ROOT", "by-dev"),
        kafka_brokers=required(environment, "MILVUS_KAFKA_BROKERS"),
        channel=environment.get("MILVUS_CHANNEL", "by-dev-rootcoord-dml_0"),
        log_copies=number(environment, "MILVUS_LOG_COPIES", "3", at_least=1, at_most=9),
        bucket=required(environment, "MILVUS_BUCKET"),
        root_path=environment.get("MILVUS_ROOT_PATH", "files").strip("/"),
        s3_endpoint=required(environment, "MILVUS_S3_ENDPOINT"),
        s3_access_key=required(environment, "MILVUS_S3_ACCESS_KEY"),
        s3_secret_key=required(environment, "MILVUS_S3_SECRET_KEY"),
        s3_region=environment.get("MILVUS_S3_REGION", "us-east-1"),
        data=Path(required(environment, "MILVUS_DATA")),
        port=number(environment, "MILVUS_PORT", "19530", at_least=1, at_most=65535),
        health_port=number(environment, "MILVUS_HEALTH_PORT", "9091", at_least=1, at_most=65535),
        session_ttl_s=number(environment, "MILVUS_SESSION_TTL_SECONDS", "10", at_least=1, at_most=600),
        flush_every_s=number(environment, "MILVUS_FLUSH_SECONDS", "10", at_least=1, at_most=3600),
        append_deadline_s=number(environment, "MILVUS_LOG_SECONDS", "10", at_least=1, at_most=60),
        replica=required(environment, "POD_NAME"),
    )
