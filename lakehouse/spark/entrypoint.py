"""What the pods of Spark run: the Java command of a driver, of an executor, and of a submission.

Spark's own scripts do the same in shell. One option of theirs is left out: Spark asks every JVM for the incubating
vector module, which only its machine learning uses, and which the Java of this image does not have. And jars are
named one by one, relative to Spark's home and in one order: only then Java takes the archive of their classes, which
saves near half of the CPU of a start.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_NOT_THERE = "--add-modules=jdk.incubator.vector"
_EXECUTOR = "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend"
_SUBMIT = "org.apache.spark.deploy.SparkSubmit"
_LAUNCHER = "org.apache.spark.launcher.Main"
_JAVA_OPTION = "SPARK_JAVA_OPT_"
# The launcher only puts a command together: no thread of it compiles or collects garbage for long.
_LAUNCHER_OPTIONS = ("-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_LAUNCHER_DEADLINE_S = 60.0
SCALA_VERSION = "2.13"
_CLASS_ARCHIVE = "classes.jsa"


def _java(environment: Mapping[str, str]) -> str:
    return f"{environment['JAVA_HOME']}/bin/java"


def jars(home: Path) -> list[str]:
    """Return the jars of Spark, relative to its home and in the order that class paths have."""
    return [f"jars/{jar.name}" for jar in sorted((home / "jars").glob("*.jar"))]


def _class_path(before: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return Java's options for Spark's jars and what would come before them: its configuration, and what a user adds.

    The archive begins with the jars, so configuration, which holds no classes, goes behind. What a user put before them
    is left there, and Java does without the archive.
    """
    home = Path(environment["SPARK_HOME"])
    conf = environment.get("SPARK_CONF_DIR") or str(home / "conf")
    # Spark names folders that only other builds of it have
    there = [entry for entry in before if (home / entry.removesuffix("*")).exists()]
    if not (home / _CLASS_ARCHIVE).is_file() or any(entry.rstrip("/") != conf for entry in there):
        return ["-cp", ":".join([*there, *jars(home)])]
    return [f"-XX:SharedArchiveFile={_CLASS_ARCHIVE}", "-cp", ":".join([*jars(home), *there])]


def executor_command(environment: Mapping[str, str]) -> list[str]:
    """Return the command of an executor from the variables that Spark's driver gives its pod."""
    numbered = {
        int(name.removeprefix(_JAVA_OPTION)): value
        for name, value in environment.items()
        if name.startswith(_JAVA_OPTION) and value != _NOT_THERE
    }
    memory = environment["SPARK_EXECUTOR_MEMORY"]
    path = f"{environment.get('SPARK_CONF_DIR', '')}:{environment.get('SPARK_CLASSPATH', '')}"
    arguments = {
        "--driver-url": environment["SPARK_DRIVER_URL"],
        "--executor-id": environment["SPARK_EXECUTOR_ID"],
        "--cores": environment["SPARK_EXECUTOR_CORES"],
        "--app-id": environment["SPARK_APPLICATION_ID"],
        "--hostname": environment["SPARK_EXECUTOR_POD_IP"],
        "--resourceProfileId": environment["SPARK_RESOURCE_PROFILE_ID"],
        "--podName": environment["SPARK_EXECUTOR_POD_NAME"],
    }
    command = [_java(environment), *(numbered[number] for number in sorted(numbered)), f"-Xms{memory}", f"-Xmx{memory}"]
    command += [*_class_path(list(filter(None, path.split(":"))), environment), _EXECUTOR]
    return [*command, *(word for pair in arguments.items() for word in pair)]


def driver_command(environment: Mapping[str, str], arguments: Sequence[str]) -> list[str]:
    """Return the command of a driver, whose program and properties file Spark's submission has put into `arguments`.

    Raises OSError or subprocess.SubprocessError where Spark's launcher fails.
    """
    address = environment["SPARK_DRIVER_BIND_ADDRESS"]
    options = ["--conf", f"spark.driver.bindAddress={address}", "--deploy-mode", "client"]
    # an executor names its driver's pod by this address in its own shuffle and block services
    options += ["--conf", f"spark.executorEnv.SPARK_DRIVER_POD_IP={address}"]
    return submit_command(environment, [*options, *arguments])


def submit_command(environment: Mapping[str, str], arguments: Sequence[str]) -> list[str]:
    """Return the Java command of `spark-submit` with these arguments, as Spark's launcher puts it together.

    Its class path is relative to Spark's home.
    Raises OSError or subprocess.SubprocessError where the launcher fails.
    """
    jars_of_launcher = f"{environment['SPARK_HOME']}/jars/*"
    command = [_java(environment), *_LAUNCHER_OPTIONS, "-cp", jars_of_launcher, _LAUNCHER, _SUBMIT, *arguments]
    # what Spark's scripts find out: without it the launcher looks for a folder of Spark's own sources
    known = {**environment, "SPARK_SCALA_VERSION": SCALA_VERSION}
    done = subprocess.run(command, env=known, capture_output=True, check=True, timeout=_LAUNCHER_DEADLINE_S, text=True)
    # words end with a zero, for arguments may hold anything else; a line with a zero of its own begins the command
    words = done.stdout.partition("\0\n")[2].split("\0")[:-1]
    words = [word for word in words if word != _NOT_THERE]
    at = words.index("-cp")
    own = f"{environment['SPARK_HOME']}/jars/"
    before = [entry for entry in words[at + 1].split(":") if not entry.startswith(own)]
    return [*words[:at], *_class_path(before, environment), *words[at + 2 :]]


def start(command: Sequence[str], home: str) -> None:
    """Become that command in Spark's home, so that signals of the kubelet reach it; returns never."""
    os.chdir(home)
    os.execv(command[0], list(command))  # noqa: S606 - no shell is wanted
