"""The pods of a job as templates, and the properties by which Spark makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lakehouse.spark.bodies import Job
from lakehouse.spark.jobs.read_table import CATALOGUE
from lakehouse.spark.settings import Settings

ZONE = "topology.kubernetes.io/zone"
WORKLOAD_LABEL = "lakehouse/workload"
FORMATION_LABEL = "lakehouse/formation"
FORMATION = "spark"
DRIVER_ACCOUNT = "spark-driver"
# of ConfigMap and Secret: the keys of the Secret are the variables that AWS' SDK reads
NAME = "spark"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
UI_PORT = 4040

_PROGRAMS = {"paced-sums": "paced_sums.py", "read-table": "read_table.py"}
_NOBODY = 65534
_SHUT_DOWN_S = 10


def driver_name(job: str) -> str:
    """Return the name of a job's driver pod: it has one alone, so nothing is submitted twice."""
    return f"{job}-driver"


def output_of(bucket: str, job: str) -> str:
    """Return where a job writes its result."""
    return f"s3a://{bucket}/spark/jobs/{job}/output"


def driver_template(job: Job) -> dict[str, Any]:
    """Return the template of the driver's pod."""
    # long enough to close the event log
    spec = {**_spec("spark-kubernetes-driver"), "terminationGracePeriodSeconds": _SHUT_DOWN_S}
    if job.driver_zones:
        spec["affinity"] = {"nodeAffinity": _required(job.driver_zones)}
    return _pod(job, "spark-driver", spec)


def executor_template(job: Job) -> dict[str, Any]:
    """Return the template of executors' pods."""
    spec = {
        **_spec("spark-kubernetes-executor"),
        # They keep nothing that cannot be computed again. A pod on a dead machine never confirms its end, and Spark
        # asks for another only once the pod is gone: so it is gone when it is deleted.
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "topologySpreadConstraints": [
            {
                "topologyKey": ZONE,
                "maxSkew": 1,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {WORKLOAD_LABEL: job.name, "spark-role": "executor"}},
            }
        ],
    }
    if job.executor_zones:
        required, preferred = job.executor_zones.required, job.executor_zones.preferred
        spec["affinity"] = {"nodeAffinity": _required(required) if required else _preferred(preferred)}
    return _pod(job, "spark-executor", spec)


def _pod(job: Job, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": name, FORMATION_LABEL: FORMATION, WORKLOAD_LABEL: job.name}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": labels}, "spec": spec}


def _spec(container: str) -> dict[str, Any]:
    confined = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    return {
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": _NOBODY, "runAsGroup": _NOBODY},
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "containers": [
            {
                "name": container,
                "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - the pod's own
                # the end of its log says why it failed
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "securityContext": confined,
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the pod's own
            }
        ],
    }


def _term(zones: Sequence[str]) -> dict[str, Any]:
    return {"matchExpressions": [{"key": ZONE, "operator": "In", "values": list(zones)}]}


def _required(zones: Sequence[str]) -> dict[str, Any]:
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_term(zones)]}}


def _preferred(zones: Sequence[str]) -> dict[str, Any]:
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": _term(zones)}]}


def properties(job: Job, settings: Settings, image: str, templates: Mapping[str, str]) -> dict[str, str]:
    """Return all properties of a job; `templates` are the files of the templates of `driver` and `executor`.

    `image` is the service's own, in which the job runs as well where the settings name no other.
    The operator's defaults come first, then what the client set, then what is not for clients to say.
    """
    identity = {
        "spark.app.name": job.name,
        "spark.executor.instances": str(job.executors),
        "spark.kubernetes.namespace": settings.namespace,
        "spark.kubernetes.container.image": settings.image or image,
        "spark.kubernetes.container.image.pullPolicy": "IfNotPresent",
        "spark.kubernetes.driver.pod.name": driver_name(job.name),
        "spark.kubernetes.executor.podNamePrefix": job.name,
        "spark.kubernetes.authenticate.driver.serviceAccountName": DRIVER_ACCOUNT,
        "spark.kubernetes.submission.waitAppCompletion": "false",
        "spark.ui.port": str(UI_PORT),
    }
    for role, file in templates.items():
        identity[f"spark.kubernetes.{role}.podTemplateFile"] = file
        for key in KEYS:
            identity[f"spark.kubernetes.{role}.secretKeyRef.{key}"] = f"{NAME}:{key}"
    return {**settings.defaults, **(job.conf or {}), **_storage(settings), **identity}


def _storage(settings: Settings) -> dict[str, str]:
    """Return where data lies: one client of the object store, S3A, serves files, event logs and Iceberg alike."""
    catalogue = f"spark.sql.catalog.{CATALOGUE}"
    return {
        "spark.eventLog.dir": f"s3a://{settings.bucket}/spark/events",
        "spark.hadoop.fs.s3a.endpoint": settings.s3_endpoint,
        "spark.hadoop.fs.s3a.endpoint.region": settings.s3_region,
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": str(settings.s3_endpoint.startswith("https:")).lower(),
        "spark.hadoop.fs.s3a.aws.credentials.provider": (
            "software.amazon.awssdk.auth.credentials.EnvironmentVariableCredentialsProvider"
        ),
        # the catalogue's tables name their files by s3://
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        catalogue: "org.apache.iceberg.spark.SparkCatalog",
        f"{catalogue}.type": "rest",
        f"{catalogue}.uri": settings.catalogue_uri,
        f"{catalogue}.io-impl": "org.apache.iceberg.hadoop.HadoopFileIO",
    }


def program_of(application: str, folder: str) -> str:
    """Return the URL of an application's program: ours are in a folder of the driver, a user's is a URL already."""
    if application not in _PROGRAMS:
        return application
    return f"local://{folder}/lakehouse/spark/jobs/{_PROGRAMS[application]}"
