"""Spark's submission service, as far as it needs no cluster: bodies, states, templates, commands, and what it keeps."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from formation_values import VALUES
from mds_lab import program
from pyarrow import fs
from starlette.testclient import TestClient

from lakehouse.environment import SettingsError
from lakehouse.formation import render
from lakehouse.spark.app import create_app
from lakehouse.spark.bodies import BadBodyError, read_job
from lakehouse.spark.jobs import paced_sums
from lakehouse.spark.kubernetes import ConflictError, Kubernetes
from lakehouse.spark.progress import summary
from lakehouse.spark.readiness import Readiness
from lakehouse.spark.service import Jobs
from lakehouse.spark.settings import Settings, read_settings
from lakehouse.spark.states import ABANDONED_AFTER_S, Driver, Record, driver_of, state_of
from lakehouse.spark.store import Store
from lakehouse.spark.submission import RefusedError
from lakehouse.spark.templates import driver_template, executor_template, properties
from lakehouse.spark_formation import DECLARED, SPARK

pytestmark = pytest.mark.needs("spark")

SUMS = {"rows": 1000, "partitions": 4, "rounds": 2, "pace_s": 0.5, "seed": 7}
KNOWN = dataclasses.replace(
    VALUES,
    object_store_key="the-key",
    object_store_secret="the-secret",  # noqa: S106 - of nothing that exists
)
RUNNING = Driver("a-driver", "Running", node="n", node_ready=True)
NOW = 1_000_000.0


def body(**changes: Any) -> bytes:  # noqa: ANN401 - anything that JSON can say
    """Return a body that is right but for the changes."""
    return json.dumps({"name": "a", "application": "paced-sums", "arguments": SUMS, **changes}).encode()


def settings() -> Settings:
    """Return the settings that a replica reads from ConfigMap and Secret."""
    public, secret = SPARK.config(KNOWN)
    return read_settings(
        {**public["data"], **secret["stringData"], "POD_NAME": "spark-submission-0", "POD_NAMESPACE": "lakehouse"}
    )


class FakeKubernetes(Kubernetes):
    """Pods, Nodes and claims in memory."""

    def __init__(self) -> None:
        own = {"metadata": {"name": "spark-submission-0"}, "spec": {"containers": [{"image": "the-image"}]}}
        self.pods: dict[str, dict[str, Any]] = {"spark-submission-0": own}
        self.claims: set[str] = set()

    def check(self) -> None:
        """All is well."""

    def pod(self, name: str) -> dict[str, Any] | None:
        """Return a pod."""
        return self.pods.get(name)

    def drivers(self) -> dict[str, dict[str, Any]]:
        """Return the drivers' pods by job."""
        return {name.removesuffix("-driver"): pod for name, pod in self.pods.items() if name.endswith("-driver")}

    def nodes(self) -> list[dict[str, Any]]:
        """Return one node that is ready."""
        return [{"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}]

    def delete_pod(self, name: str) -> None:
        """Delete a pod."""
        self.pods.pop(name, None)

    def claim(self, job: str) -> dict[str, Any]:
        """Take a name."""
        if job in self.claims:
            raise ConflictError("taken")
        self.claims.add(job)
        return {}

    def claimed_at(self, job: str) -> str | None:
        """Return when a name was taken."""
        return "2020-01-01T00:00:00Z" if job in self.claims else None

    def release(self, job: str) -> None:
        """Give up a name."""
        self.claims.discard(job)


class Lab:
    """The service over a folder and the fake; `refuse` makes Spark's submission fail with that sentence."""

    def __init__(self, folder: Path) -> None:
        self.bucket = folder / "lakehouse"
        self.bucket.mkdir()
        self.kubernetes = FakeKubernetes()
        self.refuse: str | None = None
        self.submitted: list[tuple[str, str]] = []
        store = OnDisk(folder)
        self.jobs = Jobs(settings(), self.kubernetes, store, self._submit)
        self.readiness = Readiness(self.kubernetes, store)
        self.client = TestClient(create_app("spark-submission-0", self.jobs, self.readiness))

    def _submit(self, job: Any, image: str) -> None:  # noqa: ANN401 - a job
        if self.refuse:
            raise RefusedError(self.refuse)
        self.submitted.append((job.name, image))
        self.kubernetes.pods[f"{job.name}-driver"] = pod_of("Pending")

    def get(self, name: str) -> dict[str, Any]:
        """Return the status of a job."""
        return dict(self.client.get(f"/v1/jobs/{name}").json())

    def write_result(self, name: str, *, whole: bool = True) -> None:
        """Do what Spark's writer does."""
        folder = self.bucket / "spark" / "jobs" / name / "output"
        folder.mkdir(parents=True)
        (folder / "part-00000-x.txt").write_text('{"sum": 3}\n', encoding="utf-8")
        if whole:
            (folder / "_SUCCESS").touch()


class OnDisk(Store):
    """A bucket as a folder: one has no folders of its own, the other wants them made before a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        super().__init__(fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem()), "lakehouse")

    def _write(self, path: str, data: bytes) -> None:
        (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
        super()._write(path, data)


def pod_of(phase: str, **status: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of a pod's status
    """Return a driver's pod."""
    labels = {"spark-app-selector": "spark-1", "lakehouse/workload": "a"}
    return {
        "metadata": {"name": "a-driver", "labels": labels},
        "spec": {"nodeName": "n"},
        "status": {"phase": phase, **status},
    }


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A service that nobody else uses."""
    made = Lab(tmp_path)
    yield made
    made.jobs.close()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "A"}, "name"),
        ({"name": "a" * 41}, "name"),
        ({"application": "pi"}, "application"),
        ({"application": "s3a://lakehouse/apps/sums.jar"}, "application"),
        ({"application": "file:///etc/passwd.py"}, "application"),
        ({"executors": "2"}, "executors"),
        ({"driver_zones": []}, "driver_zones"),
        ({"executor_zones": {}}, "either"),
        ({"executor_zones": {"required": ["a"], "preferred": ["b"]}}, "either"),
        ({"arguments": {**SUMS, "rows": 3}}, "3 rows do not fill 4 partitions"),
        ({"arguments": {**SUMS, "pause": 1}}, "pause"),
        ({"arguments": {**SUMS, "pace_s": -1}}, "pace_s"),
        ({"application": "read-table"}, "table"),
        ({"application": "read-table", "arguments": {"table": "no-namespace"}}, "table"),
        ({"conf": {"spark.kubernetes.namespace": "kube-system"}}, "no property"),
        ({"conf": {"spark.x": "a\nspark.kubernetes.namespace kube-system"}}, "cannot be printed"),
        ({"zones": ["a"]}, "zones"),
    ],
)
def test_a_bad_body_is_refused_with_one_sentence(changes: dict[str, Any], says: str) -> None:
    """What is wrong is named."""
    with pytest.raises(BadBodyError, match=says) as caught:
        read_job(body(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("record", "driver", "state"),
    [
        (Record(NOW), None, "submitted"),
        (Record(NOW), Driver("d", "Pending"), "submitted"),
        (Record(NOW, accepted=True), RUNNING, "running"),
        (Record(NOW), RUNNING, "running"),
        (Record(NOW, accepted=True), Driver("d", "Succeeded", node="n", node_ready=True), "succeeded"),
        (Record(NOW, accepted=True, complete=True), None, "succeeded"),
        # a whole result counts, whatever became of the driver afterwards
        (Record(NOW, accepted=True, complete=True), Driver("d", "Failed", node="n", node_ready=True), "succeeded"),
        (Record(NOW, accepted=True), Driver("d", "Failed", node="n", node_ready=True), "failed"),
        (Record(NOW, accepted=True), None, "failed"),
        (Record(NOW, refused=True), None, "failed"),
        (Record(NOW - ABANDONED_AFTER_S - 1), None, "failed"),
        # a silent machine may come back; one that is gone, or whose pods were given up, does not
        (Record(NOW, accepted=True), Driver("d", "Running", node="n", node_ready=False), "running"),
        (Record(NOW, accepted=True), Driver("d", "Running", deleting=True, node="n", node_ready=False), "failed"),
        (Record(NOW, accepted=True), Driver("d", "Running", deleting=True, node="n", node_ready=True), "running"),
        (Record(NOW, accepted=True), Driver("d", "Running", node="n", node_ready=None), "failed"),
    ],
)
def test_the_state_of_a_job(record: Record, driver: Driver | None, state: str) -> None:
    """Each way in which a job can stand; a failure always says why."""
    found, reason = state_of(record, driver, NOW)
    assert found == state
    assert reason or found != "failed"


def test_a_driver_that_failed_says_how() -> None:
    """By its container's end, in one line."""
    ended = {"state": {"terminated": {"exitCode": 1, "reason": "Error", "message": "no\nroom"}}}
    driver = driver_of(pod_of("Failed", containerStatuses=[ended]), {"n": True})
    assert state_of(Record(NOW), driver, NOW) == ("failed", "the driver ended with exit code 1 (Error): no room")


def test_a_driver_that_finds_no_place_says_why() -> None:
    """By its condition."""
    pod = pod_of("Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}])
    assert state_of(Record(NOW), driver_of(pod, {"n": True}), NOW) == ("submitted", "0/3 nodes")


def test_a_job_is_taken_submitted_and_told_of(lab: Lab) -> None:
    """From its request to its result; one that cannot be read is refused."""
    assert lab.client.post("/v1/jobs", content=b"{").status_code == 400
    answer = lab.client.post("/v1/jobs", content=body())
    assert (answer.status_code, answer.json()) == (201, {"id": "a", "state": "submitted"})
    assert answer.headers["X-Replica"] == "spark-submission-0"
    lab.jobs.close()
    assert lab.submitted == [("a", "the-image")]
    assert (lab.bucket / "spark" / "events" / ".keep").exists()
    assert lab.get("a")["state"] == "submitted"
    lab.kubernetes.pods["a-driver"] = pod_of("Running")
    assert lab.get("a") | {"progress": None} == {
        "id": "a", "state": "running", "reason": None, "driver_pod": "a-driver", "application_id": "spark-1",
        "progress": None, "result": None,
    }  # fmt: skip
    lab.write_result("a")
    assert (lab.get("a")["state"], lab.get("a")["result"]) == ("succeeded", {"sum": 3})
    assert lab.client.get("/v1/jobs").json() == {"jobs": [{"id": "a", "state": "succeeded"}]}


def test_half_a_result_is_none(lab: Lab) -> None:
    """The driver was lost while it wrote."""
    lab.client.post("/v1/jobs", content=body())
    lab.jobs.close()
    lab.write_result("a", whole=False)
    lab.kubernetes.delete_pod("a-driver")
    status = lab.get("a")
    assert (status["state"], status["result"]) == ("failed", None)
    assert status["reason"] == "the driver's pod is gone without a result"


def test_a_name_is_taken_once(lab: Lab) -> None:
    """Also where another replica took it in the same moment, and has written nothing yet."""
    assert lab.client.post("/v1/jobs", content=body()).status_code == 201
    assert lab.client.post("/v1/jobs", content=body()).status_code == 409
    lab.kubernetes.claim("b")
    assert lab.client.post("/v1/jobs", content=body(name="b")).status_code == 409
    assert lab.get("b")["state"] == "failed"  # that was years ago
    lab.jobs.close()
    assert [name for name, _ in lab.submitted] == ["a"]


def test_what_spark_refuses_has_failed(lab: Lab) -> None:
    """With Spark's own reason."""
    lab.refuse = "Exception in thread main: forbidden"
    lab.client.post("/v1/jobs", content=body())
    lab.jobs.close()
    assert (lab.get("a")["state"], lab.get("a")["reason"]) == ("failed", lab.refuse)


def test_a_refusal_after_the_pod_was_made_is_none(lab: Lab) -> None:
    """Its answer was lost, and the job runs."""
    lab.refuse = "timed out"
    lab.kubernetes.pods["a-driver"] = pod_of("Running")
    lab.client.post("/v1/jobs", content=body())
    lab.jobs.close()
    assert lab.get("a")["state"] == "running"


def test_a_job_is_ended_by_its_driver(lab: Lab) -> None:
    """And one that is unknown is not found."""
    lab.client.post("/v1/jobs", content=body())
    lab.jobs.close()
    assert lab.client.delete("/v1/jobs/a").status_code == 204
    assert lab.get("a")["state"] == "failed"
    assert lab.client.delete("/v1/jobs/b").status_code == 404
    assert lab.client.get("/v1/jobs/b").status_code == 404


def test_a_replica_is_ready_until_it_drains(lab: Lab) -> None:
    """It lives in either case."""
    assert lab.client.get("/readyz").status_code == 200
    lab.readiness.draining = True
    answer = lab.client.get("/readyz")
    assert (answer.status_code, answer.headers["Connection"]) == (503, "close")
    assert lab.client.get("/livez").status_code == 200


def test_templates_carry_labels_and_zones() -> None:
    """As the harness finds pods, and as the client wants them placed."""
    job = read_job(body(driver_zones=["zone-a"], executor_zones={"preferred": ["zone-b", "zone-c"]}))
    driver, executor = driver_template(job), executor_template(job)
    shared = {"lakehouse/workload": "a", "lakehouse/formation": "spark"}
    assert driver["metadata"]["labels"] == {"app.kubernetes.io/name": "spark-driver", **shared}
    assert executor["metadata"]["labels"] == {"app.kubernetes.io/name": "spark-executor", **shared}
    required = driver["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] == ["zone-a"]
    preferred = executor["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred[0]["preference"]["matchExpressions"][0]["values"] == ["zone-b", "zone-c"]
    assert "affinity" not in driver_template(read_job(body()))["spec"]


def test_a_lost_executor_is_gone_when_it_is_deleted() -> None:
    """Nobody on a dead machine would confirm its end."""
    assert executor_template(read_job(body()))["spec"]["terminationGracePeriodSeconds"] == 0


def test_what_is_declared_reaches_spark_and_clients_may_change_it() -> None:
    """But not who they are."""
    job = read_job(body(conf={"spark.task.maxFailures": "2"}))
    found = properties(job, settings(), "the-image", {"driver": "d.yaml", "executor": "e.yaml"})
    assert {**DECLARED, "spark.task.maxFailures": "2"}.items() <= found.items()
    assert found["spark.kubernetes.executor.podTemplateFile"] == "e.yaml"
    assert found["spark.kubernetes.executor.secretKeyRef.AWS_ACCESS_KEY_ID"] == "spark:AWS_ACCESS_KEY_ID"
    assert not {"the-key", "the-secret"} & set(found.values())


def test_wrong_settings_are_named() -> None:
    """In one sentence for the operator."""
    with pytest.raises(SettingsError, match="SPARK_JOBS_BUCKET is not set"):
        read_settings({})
    public, secret = SPARK.config(KNOWN)
    known = {**public["data"], **secret["stringData"], "POD_NAME": "a", "POD_NAMESPACE": "b"}
    with pytest.raises(SettingsError, match="SPARK_JOBS_DEFAULTS"):
        read_settings({**known, "SPARK_JOBS_DEFAULTS": "network.timeout 20s"})


def test_progress_is_that_of_all_jobs_of_a_program() -> None:
    """The driver is no executor."""
    jobs = [
        {"numCompletedTasks": 4, "numActiveTasks": 0, "numFailedTasks": 1},
        {"numCompletedTasks": 1, "numActiveTasks": 2, "numFailedTasks": 0},
    ]
    executors = [
        {"id": "driver", "hostPort": "10.0.0.1:7079", "isActive": True},
        {"id": "1", "hostPort": "10.0.0.2:40001", "isActive": False},
    ]
    assert summary(jobs, executors) == {
        "completed_tasks": 5, "active_tasks": 2, "failed_tasks": 1,
        "executors": [{"id": "1", "host": "10.0.0.2", "active": False}],
    }  # fmt: skip


def test_the_sums_depend_on_rows_rounds_and_seed_alone() -> None:
    """They are what Spark comes to (seen with 1, 3 and 7 partitions), and stay in its 64 bits."""
    assert paced_sums.expected(100_000, 2, 7) == {
        "sum": 214549744415491, "rounds": 2, "rows": 100_000, "digest": "9728cd193637bd51",
    }  # fmt: skip
    assert paced_sums.expected(1000, 1, 8)["digest"] != paced_sums.expected(1000, 1, 7)["digest"]
    assert (100_000_000 * 48_271 + 2_147_483_646 * 16_807 + 1000 * 69_621) < 2**63


def test_the_manifests_have_the_image_and_the_settings() -> None:
    """Two replicas of the service, which Kubernetes gives no variables that Spark would take for its own."""
    objects = render(SPARK, KNOWN, program("kubectl"))
    (deployment,) = (item for item in objects if item["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert deployment["spec"]["replicas"] == sum(SPARK.deployments.values())
    assert pod["containers"][0]["image"] == KNOWN.images["spark"]
    assert pod["enableServiceLinks"] is False
    accounts = {item["metadata"]["name"] for item in objects if item["kind"] == "ServiceAccount"}
    assert accounts == {pod["serviceAccountName"], "spark-driver"}
