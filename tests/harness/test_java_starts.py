"""How Java programs of the images are started, with archives of classes: Spark, Presto and Kafka."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from start_programs import KAFKA, PRESTO, presto_started, start_program

from lakehouse.kafka_packages import kafka_packages
from lakehouse.spark import entrypoint

ARCHIVE = "-XX:SharedArchiveFile=classes.jsa"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home of Spark with two jars, its configuration and an archive of classes."""
    (tmp_path / "jars").mkdir()
    (tmp_path / "conf").mkdir()
    for name in ("jars/b.jar", "jars/a.jar", "classes.jsa"):
        (tmp_path / name).touch()
    return tmp_path


def executor(home: Path, **more: str) -> dict[str, str]:
    """Return the variables that Spark's driver gives to an executor's pod."""
    return {
        "JAVA_HOME": "/java", "SPARK_HOME": str(home), "SPARK_DRIVER_URL": "spark://x@y:1", "SPARK_EXECUTOR_ID": "1",
        "SPARK_EXECUTOR_CORES": "1", "SPARK_APPLICATION_ID": "spark-1", "SPARK_EXECUTOR_POD_IP": "10.0.0.1",
        "SPARK_RESOURCE_PROFILE_ID": "0", "SPARK_EXECUTOR_POD_NAME": "a-exec-1", "SPARK_EXECUTOR_MEMORY": "480m",
        "SPARK_CONF_DIR": f"{home}/conf", **more,
    }  # fmt: skip


def class_path(command: list[str]) -> list[str]:
    """Return the entries of a command's class path."""
    return command[command.index("-cp") + 1].split(":")


def test_an_executor_is_started_without_the_module_that_is_not_there(home: Path) -> None:
    """Its options stay in their order, which is by number."""
    options = {"SPARK_JAVA_OPT_10": "-Dlast", "SPARK_JAVA_OPT_2": "-Dfirst"}
    known = executor(home, **options, SPARK_JAVA_OPT_3="--add-modules=jdk.incubator.vector")
    command = entrypoint.executor_command(known)
    assert command[:6] == ["/java/bin/java", "-Dfirst", "-Dlast", "-Xms480m", "-Xmx480m", ARCHIVE]
    assert command[command.index("--hostname") + 1] == "10.0.0.1"


def test_jars_come_first_and_in_order_for_the_archive(home: Path) -> None:
    """Java takes it only where the class path begins with the one that it was made for."""
    assert class_path(entrypoint.executor_command(executor(home))) == ["jars/a.jar", "jars/b.jar", f"{home}/conf"]


def test_what_a_user_puts_before_the_jars_stays_there(home: Path) -> None:
    """Without the archive: it would not fit, and Java would say so at each start."""
    (home / "mine.jar").touch()
    command = entrypoint.executor_command(executor(home, SPARK_CLASSPATH=f"{home}/mine.jar:{home}/gone/*"))
    assert class_path(command) == [f"{home}/conf", f"{home}/mine.jar", "jars/a.jar", "jars/b.jar"]
    assert ARCHIVE not in command


def test_without_an_archive_none_is_asked_for(home: Path) -> None:
    """As while it is made."""
    (home / "classes.jsa").unlink()
    command = entrypoint.executor_command(executor(home))
    assert class_path(command) == [f"{home}/conf", "jars/a.jar", "jars/b.jar"]
    assert ARCHIVE not in command


def test_a_submission_gets_the_class_path_that_the_launcher_meant(home: Path) -> None:
    """Its jars one by one, and no folders that are not there; all other words are the launcher's."""
    java = home / "java/bin/java"
    java.parent.mkdir(parents=True)
    path = f"hive-jackson/*:{home}/conf:{home}/jars/b.jar:{home}/jars/*"
    java.write_text(f"#!/bin/sh\nprintf '\\0\\n{java}\\0-cp\\0{path}\\0--add-modules=jdk.incubator.vector\\0Main\\0'\n")
    java.chmod(0o755)
    known = {"JAVA_HOME": str(home / "java"), "SPARK_HOME": str(home)}
    command = entrypoint.submit_command(known, ["job.py"])
    assert command == [str(java), ARCHIVE, "-cp", f"jars/a.jar:jars/b.jar:{home}/conf", "Main"]


@pytest.fixture
def presto() -> ModuleType:
    """Return Presto's start program."""
    return start_program(PRESTO)


@pytest.fixture
def kafka() -> ModuleType:
    """Return Kafka's start program."""
    return start_program(KAFKA)


@pytest.mark.parametrize("options", [["-Xmx1g"], [ARCHIVE, "-Xmx1g"]])
def test_presto_is_started_with_its_archive_where_it_has_one(
    tmp_path: Path, presto: ModuleType, options: list[str]
) -> None:
    """Its jars are named in order and relative to its home."""
    etc = tmp_path / "etc"
    for folder in (tmp_path / "lib", etc):
        folder.mkdir()
    for name in ("lib/b.jar", "lib/a.jar", *(["classes.jsa"] if ARCHIVE in options else [])):
        (tmp_path / name).touch()
    (etc / "jvm.config").write_text("-Xmx1g\n")
    (etc / "node.properties").write_text("node.id=${POD_NAME}\n")
    command = presto.command(tmp_path, etc, {"POD_NAME": "a"})
    assert command[1 : command.index("-Dnode.id=a")] == options
    assert class_path(command) == ["lib/a.jar", "lib/b.jar"]


def test_prestos_threads_may_be_woken_late(tmp_path: Path) -> None:
    """What looks for work a thousand times a second has the cores of those who have some."""
    said = presto_started(tmp_path, "cat /proc/self/timerslack_ns", tmp_path / "ready")
    assert said == "20000000\n"


def test_kafka_is_started_with_its_archive_where_it_has_one(tmp_path: Path, kafka: ModuleType) -> None:
    """Its jars are named in order and relative to its home."""
    (tmp_path / "lib").mkdir()
    for name in ("lib/b.jar", "lib/a.jar"):
        (tmp_path / name).touch()
    known = {"KAFKA_NODE_ID": "0", "KAFKA_HEAP": "192m"}
    without = kafka.java(tmp_path, tmp_path, known)
    (tmp_path / "classes.jsa").touch()
    command = kafka.java(tmp_path, tmp_path, known)
    assert "-Xmx192m" in command
    assert class_path(command) == ["lib/a.jar", "lib/b.jar"]
    assert [word for word in command if word not in without] == [ARCHIVE]


def test_kafkas_java_takes_the_archive_and_forgets_addresses_soon(tmp_path: Path, kafka: ModuleType) -> None:
    """Where it could not take the archive it ends, and what it is to know of names it says when it is asked."""
    home = kafka_packages()
    command = kafka.java(home, tmp_path, {"KAFKA_NODE_ID": "0"})
    asked = [command[0], "-Xshare:on", "-Djava.security.debug=properties", *command[1:]]
    done = subprocess.run(
        [*asked, "kafka.tools.StorageTool", "random-uuid"], cwd=home, capture_output=True, text=True, check=True
    )
    known = dict(
        line.split(": ")[-1].split("=", 1) for line in done.stderr.splitlines() if "security property:" in line
    )
    assert known["networkaddress.cache.ttl"] == "1"
    assert known["networkaddress.cache.negative.ttl"] == "0"
