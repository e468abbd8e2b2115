"""Spark's own submission of a job: templates in a folder, and `spark-submit` in cluster mode."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lakehouse.spark import additions
from lakehouse.spark.bodies import Job
from lakehouse.spark.entrypoint import submit_command
from lakehouse.spark.kubernetes import MASTER
from lakehouse.spark.settings import Settings
from lakehouse.spark.states import SUBMIT_DEADLINE_S
from lakehouse.spark.templates import driver_template, executor_template, output_of, program_of, properties

# Of the JVM that asks Kubernetes for the driver and ends; two of them fit beside the service.
_SUBMIT_OPTIONS = "-Xmx160m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"


class RefusedError(Exception):
    """Spark's submission failed; the message is what it said last."""


def submit(job: Job, image: str, settings: Settings, environment: Mapping[str, str]) -> None:
    """Ask Kubernetes, through Spark, for the job's driver; returns when it has the pod. Raises RefusedError.

    `image` is the service's own.
    """
    pods = {"driver": driver_template(job), "executor": executor_template(job)}
    if settings.image:
        for pod in pods.values():
            additions.add(pod["spec"], image)
    program = program_of(job.application, additions.programs(own_image=not settings.image))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        templates = {role: str(folder / f"{role}.yaml") for role in pods}
        for role, pod in pods.items():
            # JSON is YAML
            Path(templates[role]).write_text(json.dumps(pod), encoding="utf-8")
        lines = [f"{key} {value}" for key, value in properties(job, settings, image, templates).items()]
        # in a file, for a command line can be read by all
        (folder / "spark.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        arguments = ["--master", f"k8s://{MASTER}", "--deploy-mode", "cluster"]
        arguments += ["--properties-file", str(folder / "spark.conf"), program]
        arguments += [output_of(settings.bucket, job.name), json.dumps(job.arguments)]
        _run(arguments, environment, folder)


def _run(arguments: list[str], environment: Mapping[str, str], folder: Path) -> None:
    known = {**environment, "SPARK_SUBMIT_OPTS": _SUBMIT_OPTIONS, "HOME": str(folder)}
    log = folder / "spark-submit.log"
    try:
        with log.open("wb") as output:
            done = subprocess.run(
                submit_command(known, arguments),
                env=known, cwd=known["SPARK_HOME"], stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False,
                timeout=SUBMIT_DEADLINE_S,
            )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise RefusedError(f"spark-submit did not end in {SUBMIT_DEADLINE_S:g} s: {_end_of(log)}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise RefusedError(f"spark-submit could not be started ({error})") from error
    if done.returncode:
        raise RefusedError(_end_of(log) or f"spark-submit ended with exit code {done.returncode}")


def _end_of(log: Path) -> str:
    """Return the exception that a log ends with, or its last line."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line for line in lines if line.startswith(("Exception in", "Error:", "Caused by:"))]
    return " ".join((said or lines or [""])[-1].split())[:300]


def environment() -> dict[str, str]:
    """Return our own environment without the object store's keys, which the submission does not need."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
