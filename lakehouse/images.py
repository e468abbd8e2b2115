"""The images of the lakehouse and of the nodes that carry them: pulled, or built from packages."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from gameday.engine import Engine
from gameday.errors import HarnessError
from lakehouse.backup_image import backup_image, backup_reference
from lakehouse.formations import DEPLOYED
from lakehouse.kafka_packages import kafka_packages
from lakehouse.mds_image import mds_image, mds_packages, mds_reference
from lakehouse.milvus_image import milvus_image, milvus_packages, milvus_reference
from lakehouse.monitoring_image import monitoring_image, monitoring_packages, monitoring_reference
from lakehouse.presto_image import presto_image, presto_packages, presto_reference
from lakehouse.rclone_package import rclone_package
from lakehouse.spark_image import spark_image, spark_packages, spark_reference
from nodeimage.archive import Image, layer_of, write_archive
from nodeimage.cache import key_of, locked
from nodeimage.image import node_images as built_node_images
from nodeimage.image import node_root_file_system, pod_root_file_system
from nodeimage.programs import (
    KUBERNETES_VERSION,
    etcd_tools,
    node_programs,
    state_metrics_program,
    velero_programs,
)
from nodeimage.rootfs import PROVIDER_PACKAGES, root_file_system
from nodeimage.steps import step, together

_REPOSITORY = "localhost/lakehouse"
# what the images of the formations are made of, beside the root file system of pods
_PACKAGES = (
    mds_packages,
    presto_packages,
    spark_packages,
    milvus_packages,
    kafka_packages,
    monitoring_packages,
    rclone_package,
)
_PULL_DEADLINE_S = 600.0


def node_images(engine: Engine, choice: str) -> tuple[str, str]:
    """Return the node images (control plane, worker) for a choice of auto, pull, build, or an image reference.

    Raises HarnessError where the image can be neither pulled nor built.
    """
    upstream = f"kindest/node:{KUBERNETES_VERSION}"
    if choice == "build" or (choice == "auto" and not _pull(engine, upstream)):
        return build_node_images(engine)
    if choice in ("auto", "pull"):
        if choice == "pull" and not _pull(engine, upstream):
            raise HarnessError(f"{upstream} cannot be pulled: no registry answers; use `--node-image build`")
        return upstream, upstream
    if not engine.has_image(choice) and not _pull(engine, choice):
        raise HarnessError(f"the node image {choice} is neither here nor can it be pulled")
    return choice, choice


def _pull(engine: Engine, reference: str) -> bool:
    if engine.has_image(reference):
        return True
    return engine.succeeds(
        "pull", f"docker.io/{reference}" if reference.startswith("kindest/") else reference, deadline_s=_PULL_DEADLINE_S
    )


def build_node_images(engine: Engine) -> tuple[str, str]:
    """Return the node images built from packages; the workers' carries the images of the lakehouse."""
    # downloads beside compiles: what is fetched here is small against what is compiled
    compiled = (node_programs, state_metrics_program, velero_programs, etcd_tools)
    together(pod_root_file_system, *_PACKAGES, *compiled, node_root_file_system, _provider_root_file_system)
    with tempfile.TemporaryDirectory() as folder:
        carried = [references()[formation.name] for formation in DEPLOYED]
        return built_node_images(engine, key_of(*carried), partial(lakehouse_images, Path(folder), carried))


def references() -> dict[str, str]:
    """Return the reference of the image that is built for each of what is deployed, by its name."""
    return {
        "mds": mds_reference(),
        "presto": presto_reference(),
        "spark": spark_reference(),
        "milvus": milvus_reference(),
        "monitoring": monitoring_reference(),
        "backup": backup_reference(),
    }


def lakehouse_images(scratch: Path, wanted: Collection[str]) -> list[Image]:
    """Describe the formations' images of these references; layers are written into `scratch`.

    What is not there yet is built, but nothing that only others need.
    """
    parts: dict[str, tuple[tuple[Callable[[], Path], ...], Callable[..., Image]]] = {
        mds_reference(): ((mds_packages,), mds_image),
        presto_reference(): ((presto_packages,), presto_image),
        spark_reference(): ((mds_packages, spark_packages), spark_image),
        milvus_reference(): ((milvus_packages, kafka_packages, node_programs, etcd_tools), milvus_image),
        monitoring_reference(): ((monitoring_packages, state_metrics_program), monitoring_image),
        backup_reference(): ((rclone_package, velero_programs, etcd_tools), backup_image),
    }
    chosen = [part for reference, part in parts.items() if reference in wanted]
    needed = list({pod_root_file_system, *(build for builds, _ in chosen for build in builds)})
    made = dict(zip(needed, together(*needed), strict=True))
    return [
        describe(made[pod_root_file_system], *(made[build] for build in builds), scratch) for builds, describe in chosen
    ]


def lakehouse_archive(scratch: Path, wanted: Collection[str]) -> Path:
    """Write the images of these references as one archive, for nodes whose own image does not carry them."""
    return write_archive(scratch / "lakehouse.tar", lakehouse_images(scratch, wanted))


def _provider_root_file_system() -> Path:
    return root_file_system("provider", PROVIDER_PACKAGES)


def provider_image(engine: Engine) -> str:
    """Return the image of the provider's services (Postgres, HAProxy, versitygw), built where it is not there yet."""
    root, programs = _provider_root_file_system(), node_programs()
    reference = f"{_REPOSITORY}/provider:{key_of(str(root), str(programs))}"
    with locked("provider-image"):
        if not engine.has_image(reference):
            with step("image of the provider's services"), tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                layer = layer_of(folder / "provider.layer", {"/usr/local/bin/versitygw": programs / "versitygw"})
                archive = write_archive(folder / "provider.tar", [Image(reference, (root, layer))])
                engine.call("load", "--input", str(archive), deadline_s=300)
        engine.remove_other_images(reference)
    return reference
