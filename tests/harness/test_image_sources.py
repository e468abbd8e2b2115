"""The two sources of images behind the same manifests: what differs between pods, and what is said of it."""

from __future__ import annotations

import ast
import dataclasses
import json
import runpy
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from formation_values import VALUES, rendered
from kubernetes import client
from start_programs import PRESTO

from gameday.cli_gameday import gameday
from gameday.cli_lakehouse import lakehouse
from gameday.clusters import TOPOLOGY
from gameday.contract import load_contract
from gameday.errors import ExitCode
from gameday.experiment import load_experiment
from gameday.paths import PROJECT
from gameday.report import _run_facts
from gameday.run import open_folder
from gameday.topology import load_topology
from lakehouse import deploy, images, python_packages, spark_image
from lakehouse.formation import Formation, FormationValues, ImageSource, images_of
from lakehouse.formations import FORMATIONS
from lakehouse.spark import additions, submission
from lakehouse.spark.bodies import read_job
from lakehouse.spark.settings import read_settings
from lakehouse.spark_formation import SPARK
from lakehouse.upstream import PRESTO_IMAGE, SPARK_IMAGE
from nodeimage.archive import layer_of

UPSTREAM = dataclasses.replace(VALUES, source=ImageSource.UPSTREAM)
OWN = VALUES.images["spark"]


def containers(item: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the containers of a Deployment's pods by name."""
    return {one["name"]: one for one in item["spec"]["template"]["spec"]["containers"]}


@pytest.mark.parametrize("formation", FORMATIONS, ids=lambda formation: formation.name)
def test_both_sources_have_the_same_objects(formation: Formation) -> None:
    """The same kinds, names and pods but for what the other image has to be told; MDS differs in nothing.

    What Milvus's pods are made of is another thing (`test_milvus_upstream.py`).
    """
    built, upstream = rendered(formation, VALUES), rendered(formation, UPSTREAM)
    assert list(built) == list(upstream)
    if formation.name == "mds":
        assert built == upstream
    if formation.name == "milvus":
        return
    may_differ = {"presto": {"image", "args", "volumeMounts"}}
    for key, item in built.items():
        if key[0] != "Deployment":
            continue
        ours, theirs = containers(item), containers(upstream[key])
        assert list(ours) == list(theirs)
        for name, one in ours.items():
            differ = {field for field in {*one, *theirs[name]} if one.get(field) != theirs[name].get(field)}
            assert differ == may_differ.get(formation.name, set())


def test_references_are_those_of_the_source() -> None:
    """Pinned ones, without the host of a registry; what is built is built under the names that manifests have."""
    made = {values.source: [item for one in FORMATIONS for item in rendered(one, values).values()]
            for values in (VALUES, UPSTREAM)}  # fmt: skip
    used = {
        source: {item["metadata"]["name"]: images_of(item) for item in items if item["kind"] == "Deployment"}
        for source, items in made.items()
    }
    mds, milvus, presto, spark = (VALUES.images[name] for name in ("mds", "milvus", "presto", "spark"))
    assert used[ImageSource.PACKAGES] == {
        "mds": [mds], "milvus": [milvus], "presto-coordinator": [presto], "presto-worker": [presto],
        "spark-submission": [spark],
    }  # fmt: skip
    assert used[ImageSource.UPSTREAM] == {
        "mds": [mds], "milvus": ["milvusdb/milvus:v2.6.25"],
        "presto-coordinator": ["prestodb/presto:0.287"], "presto-worker": ["prestodb/presto:0.287"],
        "spark-submission": ["apache/spark:4.0.1-scala2.13-java17-python3-ubuntu", spark],
    }  # fmt: skip
    # only what something runs is built and loaded; of Milvus these are etcd and Kafka
    assert deploy._built(made[ImageSource.PACKAGES], VALUES) == sorted([mds, milvus, presto, spark])
    assert deploy._built(made[ImageSource.UPSTREAM], UPSTREAM) == sorted([mds, milvus, spark])


def test_nothing_is_built_that_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Presto's own image nobody waits for ours; what MDS and Spark have in common is there once."""

    def made(name: str) -> Path:
        folder = tmp_path / name
        for part in ("spark", "java"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        return folder

    def refuse() -> Path:
        pytest.fail("Presto is built")

    for name in ("pod_root_file_system", "mds_packages", "spark_packages"):
        monkeypatch.setattr(images, name, partial(made, name))
    monkeypatch.setattr(images, "presto_packages", refuse)
    wanted = [images.references()[name] for name in ("mds", "spark")]
    described = images.lakehouse_images(tmp_path, wanted)
    assert [image.reference for image in described] == wanted
    mds, spark = described
    assert mds.layers[:2] == spark.layers[:2]


@pytest.mark.parametrize("server", ["presto-coordinator", "presto-worker"])
def test_prestos_own_image_gets_our_start_program_where_the_manifest_looks_for_it(server: str) -> None:
    """By the ConfigMap of the settings, which names the two plug-ins that are to be loaded."""
    upstream = rendered(deploy_of("presto"), UPSTREAM)
    container = containers(upstream["Deployment", server])["presto"]
    looked_for = container["command"][1]
    (mount,) = (one for one in container["volumeMounts"] if one["mountPath"] == looked_for)
    volumes = {one["name"]: one for one in upstream["Deployment", server]["spec"]["template"]["spec"]["volumes"]}
    sources = volumes[mount["name"]]["projected"]["sources"]
    assert {"configMap": {"name": server}} in sources
    data = upstream["ConfigMap", server]["data"]
    assert data[mount["subPath"]] == PRESTO.read_text(encoding="utf-8")
    (home,) = (after for word, after in zip(container["args"], container["args"][1:], strict=False) if word == "--home")
    lines = dict(line.split("=", 1) for line in data["config.properties"].splitlines())
    assert lines["plugin.bundles"].split(",") == [f"{home}/plugin/{name}" for name in ("tpcds", "tpch", "postgresql")]
    assert (
        "plugin.bundles" not in rendered(deploy_of("presto"), VALUES)["ConfigMap", server]["data"]["config.properties"]
    )


def deploy_of(name: str) -> Formation:
    """Return a formation by its name."""
    return next(formation for formation in FORMATIONS if formation.name == name)


@pytest.mark.parametrize(
    ("own", "environment", "java"),
    [
        (True, {"JAVA_HOME": "/usr/lib/jvm/jre"}, "HOME/java/bin/java"),
        (False, {"JAVA_HOME": "/usr/lib/jvm/jre"}, "/usr/lib/jvm/jre/bin/java"),
        (False, {}, "java"),
    ],
)
def test_presto_starts_from_either_layout(tmp_path: Path, *, own: bool, environment: dict[str, str], java: str) -> None:
    """Ours has its Java beside the server, upstream's elsewhere; class path, options and settings are the same."""
    home, etc = tmp_path / "home", tmp_path / "etc"
    for file in (home / "lib/b.jar", home / "lib/a.jar", etc / "jvm.config", etc / "node.properties"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    if own:
        (home / "java/bin").mkdir(parents=True)
        (home / "java/bin/java").touch()
    (etc / "jvm.config").write_text("-Xmx9m\n")
    (etc / "node.properties").write_text("node.id=${POD_NAME}\n")
    command = runpy.run_path(str(PRESTO))["command"](home, etc, {"POD_NAME": "p", **environment})
    assert command[0] == java.replace("HOME", str(home))
    assert command[1:3] == ["-Xmx9m", "-Dnode.id=p"]
    assert [Path(jar).name for jar in command[command.index("-cp") + 1].split(":")] == ["a.jar", "b.jar"]


def test_the_start_program_is_written_for_an_old_python() -> None:
    """Upstream's image may have Python 3.6: no annotation is evaluated that it does not know, and no newer syntax."""
    tree = ast.parse(PRESTO.read_text(encoding="utf-8"), feature_version=(3, 6))
    futures = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert not futures
    annotations = [node.annotation for node in ast.walk(tree) if isinstance(node, ast.arg | ast.AnnAssign)]
    annotations += [node.returns for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    found = [one for one in annotations if one is not None]
    assert found
    assert all(isinstance(one, ast.Name | ast.Constant) for one in found)


def jobs_settings(values: FormationValues) -> Any:  # noqa: ANN401 - Settings, whose fields the tests read
    """Return what a replica of the submission service reads."""
    public, secret = SPARK.config(values)
    return read_settings({**public["data"], **secret["stringData"], "POD_NAME": "s-0", "POD_NAMESPACE": "lakehouse"})


class Submitted:
    """What `spark-submit` would have been given: its arguments, its properties, and the templates of the pods."""

    def __init__(self, values: FormationValues, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(submission, "_run", self._keep)
        arguments = {"rows": 10, "partitions": 1, "rounds": 1, "pace_s": 0, "seed": 1}
        body = {"name": "a", "application": "paced-sums", "arguments": arguments}
        submission.submit(read_job(json.dumps(body).encode()), OWN, jobs_settings(values), {})

    def _keep(self, arguments: list[str], _environment: dict[str, str], folder: Path) -> None:
        self.arguments = arguments
        lines = (folder / "spark.conf").read_text().splitlines()
        self.properties = dict(line.split(" ", 1) for line in lines)
        roles = ("driver", "executor")
        files = {role: self.properties[f"spark.kubernetes.{role}.podTemplateFile"] for role in roles}
        self.pods = {role: json.loads(Path(file).read_text())["spec"] for role, file in files.items()}


def test_jobs_run_in_the_image_of_the_service_where_all_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which has all that they need, so their pods start with nothing else."""
    done = Submitted(VALUES, monkeypatch)
    assert done.properties["spark.kubernetes.container.image"] == OWN
    assert not any("initContainers" in pod for pod in done.pods.values())
    assert f"local://{additions.PROGRAMS}/lakehouse/spark/jobs/paced_sums.py" in done.arguments


def test_jobs_in_sparks_own_image_are_given_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jars and programs, by a container of ours that runs before; Spark and Python are told where they are."""
    done = Submitted(UPSTREAM, monkeypatch)
    assert done.properties["spark.kubernetes.container.image"] == SPARK_IMAGE
    for pod in done.pods.values():
        (first,), (container,) = pod["initContainers"], pod["containers"]
        assert first["image"] == OWN
        *_, target = first["command"]
        copied = {Path(one).name for one in first["command"] if one.startswith("/") and one != target}
        assert first["volumeMounts"] == [{"name": "added", "mountPath": target}]
        assert {"name": "added", "emptyDir": {}} in pod["volumes"]
        assert {"name": "added", "mountPath": target, "readOnly": True} in container["volumeMounts"]
        environment = {one["name"]: one["value"] for one in container["env"]}
        assert Path(environment["SPARK_DIST_CLASSPATH"]).parent.name in copied
        assert environment["SPARK_DIST_CLASSPATH"].startswith(f"{target}/")
        assert (environment["PYTHONPATH"], "lakehouse" in copied) == (target, True)
        assert f"local://{target}/lakehouse/spark/jobs/paced_sums.py" in done.arguments
        assert first["securityContext"]["readOnlyRootFilesystem"] is True


def test_our_image_of_spark_has_what_is_copied_from_it(tmp_path: Path) -> None:
    """The jars that Spark lacks lie in a folder of their own and among its own, as one file; so do they in a layer."""
    added, jars = tmp_path / "spark" / "added", tmp_path / "spark" / "jars"
    added.mkdir(parents=True)
    jars.mkdir()
    (added / "iceberg.jar").write_bytes(b"iceberg")
    (added / "shared.jar").write_bytes(b"shared")
    for own in ("spark-core.jar", "shared.jar"):
        (jars / own).write_bytes(b"shared")
    spark_image._link_all(added, jars)
    assert sorted(file.name for file in jars.iterdir()) == ["iceberg.jar", "shared.jar", "spark-core.jar"]
    with tarfile.open(layer_of(tmp_path / "layer", {spark_image.SPARK_HOME: tmp_path / "spark"})) as tar:
        kinds = {member.name: member.islnk() for member in tar}
    assert f"{additions.JARS}/iceberg.jar".lstrip("/") in kinds
    assert kinds["opt/spark/jars/iceberg.jar"] != kinds["opt/spark/added/iceberg.jar"]
    assert additions.PROGRAMS == python_packages.SITE


@pytest.mark.parametrize(
    ("command", "words", "says"),
    [
        (lakehouse, ["up", "--images", "docker"], "'docker' is not one of 'packages', 'upstream'"),
        (gameday, ["--up", "--images", "docker", "no-folder"], "'docker' is not one of 'packages', 'upstream'"),
        (gameday, ["--images", "upstream", "no-folder"], "it goes with --up"),
    ],
)
def test_a_wrong_source_is_bad_usage(command: Any, words: list[str], says: str) -> None:  # noqa: ANN401 - of click
    """One sentence, exit code 64, and nothing is touched; nor could it be, of a region and experiments that are not."""
    result = CliRunner().invoke(command, words, env={"CHAOS_REGION": "no-region"})
    assert result.exit_code == ExitCode.USAGE, result.output
    assert [says in line for line in result.stderr.splitlines()].count(True) == 1


def pod_that_waits(reason: str, message: str | None, *, first: bool) -> client.V1Pod:
    """Return a pod that has a node and waits with its first container, an init container or none."""
    waiting = client.V1ContainerStateWaiting(reason=reason, message=message)
    status = client.V1ContainerStatus(
        name="a", image="a", image_id="", ready=False, restart_count=0, state=client.V1ContainerState(waiting=waiting)
    )
    after = client.V1ContainerStateWaiting(reason="PodInitializing")
    behind = client.V1ContainerStatus(
        name="b", image="b", image_id="", ready=False, restart_count=0, state=client.V1ContainerState(waiting=after)
    )
    scheduled = client.V1PodCondition(type="PodScheduled", status="True")
    statuses = {"init_container_statuses": [status], "container_statuses": [behind]}
    if not first:
        statuses = {"init_container_statuses": [], "container_statuses": [status]}
    return client.V1Pod(status=client.V1PodStatus(conditions=[scheduled], **statuses))


def test_the_images_of_a_deployment_are_those_of_all_its_containers() -> None:
    """As Kubernetes' client hands it over; a pod without init containers has no list of them."""
    first, other = client.V1Container(name="a", image=SPARK_IMAGE), client.V1Container(name="b", image=OWN)
    for spec, expected in (
        (client.V1PodSpec(init_containers=[first], containers=[other]), {SPARK_IMAGE, OWN}),
        (client.V1PodSpec(containers=[other]), {OWN}),
    ):
        template = client.V1PodTemplateSpec(spec=spec)
        known = client.V1DeploymentSpec(selector=client.V1LabelSelector(), template=template)
        plain = client.ApiClient().sanitize_for_serialization(client.V1Deployment(spec=known))
        assert set(images_of(plain)) == expected


@pytest.mark.parametrize("first", [True, False])
def test_an_image_that_cannot_be_pulled_is_named_with_its_reason(*, first: bool) -> None:
    """Of an init container, too; where Kubernetes gives no message the reason is all there is."""
    message = f'Back-off pulling image "{PRESTO_IMAGE}": ErrImagePull: no such host'
    assert deploy._why_not(pod_that_waits("ImagePullBackOff", message, first=first)) == f"ImagePullBackOff: {message}"
    assert deploy._why_not(pod_that_waits("ContainerCreating", None, first=first)) == "ContainerCreating"


def test_a_run_writes_down_the_images_that_it_ran_on(tmp_path: Path) -> None:
    """For a release that was judged on one of them says nothing of others."""
    file = next((PROJECT / "experiments" / "zone-outage").glob("*.yaml"))
    experiment = load_experiment(file, load_contract(PROJECT / "contract.yaml"), load_topology(TOPOLOGY))
    used = {"presto-worker": [PRESTO_IMAGE], "spark-submission": [SPARK_IMAGE, OWN]}
    folder = open_folder(tmp_path, experiment, "east", {}, ("zone-a",), used, PROJECT / "contract.yaml")
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["images"] == used
    assert meta["contract"].startswith(f"{PROJECT}/contract.yaml (")
    shown = dict(_run_facts(meta, folder, []))["Images"]
    assert all(image in shown for image in (PRESTO_IMAGE, SPARK_IMAGE, OWN))
