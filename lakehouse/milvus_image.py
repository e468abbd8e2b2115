"""The image of Milvus, its etcd and its Kafka: the stand-in's Python packages, Go programs, jars and their Java."""

from __future__ import annotations

from pathlib import Path

from lakehouse.kafka_packages import BROKER, kafka_packages_key
from lakehouse.python_packages import SHARED, SITE, packages_key, python_packages, service_files
from nodeimage.archive import Image, layer_of
from nodeimage.cache import key_of
from nodeimage.programs import etcd_tools_key, node_programs_key

_MILVUS = Path(__file__).parent / "milvus"
_REQUIREMENTS = _MILVUS / "requirements.txt"
_KAFKA_HOME = "/usr/lib/kafka"
_REPOSITORY = "localhost/lakehouse"


def milvus_reference() -> str:
    """Return the reference of Milvus's image; its tag is a key of all that is in it, so a change has another name."""
    parts = (packages_key(_REQUIREMENTS), kafka_packages_key(), node_programs_key(), etcd_tools_key())
    return f"{_REPOSITORY}/milvus:{key_of(*parts, _MILVUS, BROKER, *SHARED)}"


def milvus_packages() -> Path:
    """Return a folder with the Python packages of the stand-in, installed where it is not there yet."""
    return python_packages("milvus", "Milvus", _REQUIREMENTS)


def milvus_image(pod_root: Path, packages: Path, kafka: Path, programs: Path, etcd_tools: Path, scratch: Path) -> Image:
    """Describe the image of Milvus, etcd and Kafka; layers are written into `scratch`."""
    # a member takes a snapshot of itself before its volume is backed up
    etcd = {"/usr/local/bin/etcd": programs / "etcd", "/usr/local/bin/etcdctl": etcd_tools / "etcdctl"}
    layers = (
        pod_root,
        layer_of(scratch / "milvus-packages.layer", {SITE: packages}, compiled=True),
        layer_of(scratch / "kafka-packages.layer", {_KAFKA_HOME: kafka}),
        layer_of(scratch / "etcd.layer", etcd),
        layer_of(scratch / "milvus.layer", {**service_files(_MILVUS), f"{_KAFKA_HOME}/broker.py": BROKER}),
    )
    return Image(milvus_reference(), layers, ("python3", "-m", "lakehouse.milvus"))
