"""The server process of a replica."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from concurrent import futures

import grpc
from pyarrow.fs import S3FileSystem
from pymilvus.grpc_gen import milvus_pb2_grpc

from lakehouse.milvus.etcd import Etcd
from lakehouse.milvus.health import Health, serve_health
from lakehouse.milvus.log import Log
from lakehouse.milvus.metadata import Metadata
from lakehouse.milvus.replica import Replica
from lakehouse.milvus.segments import SegmentStore
from lakehouse.milvus.servicer import ReplicaServicer
from lakehouse.milvus.session import Session
from lakehouse.milvus.settings import Settings

_LOG = logging.getLogger(__name__)
_THREADS = 32
_MESSAGE_BYTES_MAX = 64 * 2**20
# On its way out: what was asked is answered, new calls are refused so that clients go elsewhere.
_GRACE_S = 5.0
# As Milvus's proxy does, allow a client to ask every 5 s whether the connection still carries anything, also one that
# waits for nothing; pymilvus does so every 10 s. By itself a server of gRPC ends such connections ("too many pings").
_PINGS = [("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.min_ping_interval_without_data_ms", 5000)]


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; returns when what was asked has been answered."""
    etcd = Etcd(settings.etcd_endpoints)
    log = Log(settings.kafka_brokers, settings.channel, settings.append_deadline_s)
    log.create(settings.log_copies)
    replica = Replica(settings, Metadata(etcd, settings.etcd_root), log, _store(settings))
    session = Session(etcd, settings.etcd_root, settings.replica, settings.session_ttl_s)
    session.begin()
    _in_background("session", session.keep)
    replica.recover()
    _in_background("log", replica.follow)
    # before all is applied: what is flushed meanwhile need not be applied again by the next that begins
    _in_background("tending", replica.tend)
    replica.begin()

    options = [("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX), ("grpc.so_reuseport", 0), *_PINGS]
    server = grpc.server(futures.ThreadPoolExecutor(_THREADS), options=options)
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(ReplicaServicer(replica), server)
    server.add_insecure_port(f"[::]:{settings.port}")
    server.start()
    serve_health(Health(settings.port), settings.health_port)
    _LOG.info("serves on port %d", settings.port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop(_GRACE_S))
    server.wait_for_termination()


def _store(settings: Settings) -> SegmentStore:
    files = S3FileSystem(
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        endpoint_override=settings.s3_endpoint,
        region=settings.s3_region,
    )
    return SegmentStore(files, settings.bucket, settings.root_path)


def _in_background(name: str, work: Callable[[], None]) -> None:
    """Do what a replica cannot be without: where it ends, so does the process, and Kubernetes begins another."""

    def run() -> None:
        try:
            work()
        except Exception:  # noqa: BLE001 - whatever ended it, the replica is none any more
            _LOG.exception("%s ended, so the replica does", name)
        os._exit(1)

    threading.Thread(target=run, name=name, daemon=True).start()
