"""The formation of Spark: what its submission service, drivers and executors read, and what decides their recovery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lakehouse.formation import Entrance, Formation, FormationValues, ImageSource, config_map, secret
from lakehouse.provider import BUCKET, OBJECT_STORE_PORT, REGION_OF_STORE
from lakehouse.upstream import SPARK_IMAGE, spark_pod

NAME = "spark"
SUBMISSION = "spark-submission"
PORT, NODE_PORT = 8182, 30182
# From SIGTERM on: two failed checks of the load balancer (1 s), two of the kubelet (2 s); then nobody comes any more.
DRAIN_S = 3
_CATALOGUE = "http://mds:8181"

# What decides how soon a lost executor is noticed and replaced, and how much of that a job bears. Spark's own figures
# (120 s and more) suit clusters whose machines come back; here a machine that is silent for 20 s is given up.
DECLARED: Mapping[str, str] = {
    # noticed: no heartbeat for as long, looked at as often
    "spark.network.timeout": "20s",
    "spark.network.timeoutInterval": "2s",
    "spark.executor.heartbeatInterval": "3s",
    # its data is not waited for: a connection to a dead machine is never refused, so each try takes its time-out
    "spark.shuffle.io.connectionCreationTimeout": "5s",
    "spark.shuffle.io.maxRetries": "2",
    "spark.shuffle.io.retryWait": "2s",
    "spark.rpc.io.connectionCreationTimeout": "5s",
    # replaced: how soon its pod is deleted, missed, and asked for anew
    "spark.kubernetes.dynamicAllocation.deleteGracePeriod": "1s",
    "spark.kubernetes.executor.missingPodDetectDelta": "10s",
    "spark.kubernetes.executor.apiPollingInterval": "5s",
    "spark.kubernetes.allocation.batch.delay": "1s",
    # borne: a zone takes all tasks and all shuffle data of its executors at once, and may do so more than once
    "spark.task.maxFailures": "8",
    "spark.stage.maxConsecutiveAttempts": "8",
    "spark.executor.maxNumFailures": "20",
    "spark.executor.failuresValidityInterval": "10m",
    # with a node for each zone, leaving out nodes on which something failed would leave none
    "spark.excludeOnFailure.enabled": "false",
}

_JAVA_OPTIONS = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+ExitOnOutOfMemoryError"
# What a job begins with, beside that.
_DEFAULTS: Mapping[str, str] = {
    # Of a heap 300 MB are Spark's own, and it begins with no less than one and a half of that beside the space that the
    # collector keeps free: 480 MB is the least that does.
    "spark.driver.memory": "480m",
    # a JVM's own 170 MB, and the Python of the program
    "spark.driver.memoryOverhead": "288m",
    "spark.kubernetes.driver.request.cores": "100m",
    "spark.executor.memory": "480m",
    "spark.executor.memoryOverhead": "224m",
    "spark.executor.cores": "1",
    "spark.kubernetes.executor.request.cores": "100m",
    # one that starts (5 s of CPU) may not take all that is left where the pods of a lost zone all start at once
    "spark.kubernetes.executor.limit.cores": "800m",
    # small JVMs on little CPU: no threads of a collector, and no optimising compiler that a short life never repays
    "spark.driver.defaultJavaOptions": _JAVA_OPTIONS,
    "spark.executor.defaultJavaOptions": _JAVA_OPTIONS,
    "spark.eventLog.enabled": "true",
    "spark.eventLog.rolling.enabled": "true",
    "spark.ui.showConsoleProgress": "false",
    # the root of a pod is read-only
    "spark.sql.warehouse.dir": "file:///tmp/warehouse",
    # no job asks for volumes
    "spark.kubernetes.driver.ownPersistentVolumeClaim": "false",
    "spark.kubernetes.driver.reusePersistentVolumeClaim": "false",
}


def config(values: FormationValues) -> list[dict[str, Any]]:
    """Return the ConfigMap that the service reads, and the Secret that it, drivers and executors read."""
    defaults = {**_DEFAULTS, **DECLARED, **values.spark_conf}
    settings = {
        "SPARK_JOBS_BUCKET": BUCKET,
        "SPARK_JOBS_S3_ENDPOINT": f"http://{values.object_store_address}:{OBJECT_STORE_PORT}",
        "SPARK_JOBS_S3_REGION": REGION_OF_STORE,
        "SPARK_JOBS_CATALOGUE_URI": _CATALOGUE,
        "SPARK_JOBS_PORT": str(PORT),
        "SPARK_JOBS_DRAIN_SECONDS": str(DRAIN_S),
        "SPARK_JOBS_DEFAULTS": "".join(f"{name} {value}\n" for name, value in defaults.items()),
    }
    if values.source is ImageSource.UPSTREAM:
        settings["SPARK_JOBS_IMAGE"] = SPARK_IMAGE
    secrets = {"AWS_ACCESS_KEY_ID": values.object_store_key, "AWS_SECRET_ACCESS_KEY": values.object_store_secret}
    return [config_map(NAME, NAME, settings), secret(NAME, NAME, secrets)]


SPARK = Formation(
    name=NAME,
    deployments={SUBMISSION: 2},
    entrance=Entrance(PORT, NODE_PORT, "/readyz"),
    config=config,
    declared={**DECLARED, "spark.drain_s": DRAIN_S},
    upstream=spark_pod,
)
