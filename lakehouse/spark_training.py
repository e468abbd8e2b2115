"""Training runs of Spark: a driver with an executor, and two that ask a Kubernetes which is not there for pods.

Together they load nearly all classes that drivers, executors and submissions load; the rest
comes from the jars as ever.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from gameday.shell import run
from lakehouse.class_archive import record_classes
from lakehouse.spark.entrypoint import SCALA_VERSION, submit_command

# Compilers take both cores meanwhile, so that one of these took more than three minutes once; alone it takes one.
_DEADLINE_S = 900.0
# Spark asks executors for a module that this Java does not have, and those that it starts itself are not started by us.
_JAVA = """#!/bin/sh
for word; do shift; [ "$word" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$word"; done
exec {java}/bin/java "$@"
"""
_PROGRAM = """\
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
print(spark.range(0, 1000, 1, 2).selectExpr("id % 7 AS bucket").groupBy("bucket").count().collect())
try:
    # nobody answers there: what is wanted is what a program loads until then
    spark.range(5).write.json("s3a://bucket/training")
except Exception as refused:
    print(refused)
spark.stop()
"""
_NOBODY = "http://127.0.0.1:1"
_STORE = {
    "spark.hadoop.fs.s3a.endpoint": _NOBODY,
    "spark.hadoop.fs.s3a.endpoint.region": "training",
    "spark.hadoop.fs.s3a.access.key": "training",
    "spark.hadoop.fs.s3a.secret.key": "training",
    "spark.hadoop.fs.s3a.attempts.maximum": "0",
    "spark.hadoop.fs.s3a.retry.limit": "0",
    "spark.eventLog.enabled": "true",
    "spark.eventLog.rolling.enabled": "true",
}
_PODS = {
    "spark.kubernetes.container.image": "training",
    "spark.kubernetes.driver.pod.name": "training",
    "spark.driver.host": "127.0.0.1",
}
_POD = '{"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "spark"}]}}'
_JVM = "-XX:+UseSerialGC -Dkubernetes.request.retry.backoffLimit=0"


def train_spark(home: Path, java: Path, scratch: Path, log: Path) -> list[Path]:
    """Make the training runs and return the lists of classes that they loaded; raises HarnessError where one fails."""
    wrapped = scratch / "java/bin/java"
    wrapped.parent.mkdir(parents=True)
    wrapped.write_text(_JAVA.format(java=java))
    wrapped.chmod(0o755)
    program, pod = scratch / "program.py", scratch / "pod.yaml"
    program.write_text(_PROGRAM)
    pod.write_text(_POD)
    environment = {
        **os.environ,
        "JAVA_HOME": str(wrapped.parents[1]),
        "SPARK_HOME": str(home),
        "SPARK_SCALA_VERSION": SCALA_VERSION,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_DIRS": str(scratch),
    }
    lists = {name: scratch / f"{name}.classes" for name in ("driver", "executor", "submission", "client")}
    one = {"spark.eventLog.dir": scratch.as_uri(), "spark.sql.warehouse.dir": scratch.as_uri(), **_STORE}
    one["spark.executor.memory"] = "480m"
    one["spark.executor.extraJavaOptions"] = f"-XX:+UseSerialGC {record_classes(lists['executor'])}"
    _submit(environment, "local-cluster[1,1,1024]", one, str(program), lists["driver"], log, check=True)
    # of an executor that Spark starts itself, in a place that cannot be chosen
    shutil.rmtree(home / "work")
    templates = {f"spark.kubernetes.{role}.podTemplateFile": str(pod) for role in ("driver", "executor")}
    pods = {**_PODS, **templates, "spark.submit.deployMode": "cluster"}
    _submit(environment, f"k8s://{_NOBODY}", pods, f"local://{program}", lists["submission"], log, check=False)
    pods["spark.submit.deployMode"] = "client"
    _submit(environment, f"k8s://{_NOBODY}", pods, str(program), lists["client"], log, check=False)
    return list(lists.values())


def _submit(
    environment: Mapping[str, str],
    master: str,
    properties: Mapping[str, str],
    program: str,
    listed: Path,
    log: Path,
    *,
    check: bool,
) -> None:
    options = [word for name, value in properties.items() for word in ("--conf", f"{name}={value}")]
    known = {**environment, "SPARK_SUBMIT_OPTS": f"{_JVM} {record_classes(listed)}"}
    command = submit_command(known, ["--master", master, *options, program])
    run(command, environment=known, deadline_s=_DEADLINE_S, check=check, log=log, cwd=Path(environment["SPARK_HOME"]))
