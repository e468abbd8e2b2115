"""The images of the lakehouse and of the nodes that carry them: pulled, or built from packages."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from gameday.engine import Engine
from gameday.errors import HarnessError
from gameday.shell import run
from nodeimage.archive import Image, layer_of, write_archive
from nodeimage.cache import artefact, key_of, locked
from nodeimage.image import node_images as built_node_images
from nodeimage.image import node_root_file_system, pod_root_file_system
from nodeimage.programs import KUBERNETES_VERSION, node_programs
from nodeimage.rootfs import POD_PACKAGES, PROVIDER_PACKAGES, root_file_system
from nodeimage.steps import log_file, step, together

_MDS = Path(__file__).parent / "mds"
_REQUIREMENTS = _MDS / "requirements.txt"
# Debian 12's, which the root file system of pods has
_POD_PYTHON = "3.11"
_REPOSITORY = "localhost/lakehouse"
_PULL_DEADLINE_S = 600.0


def node_images(engine: Engine, choice: str) -> tuple[str, str] | None:
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
    """Return the node images built from packages; the workers' carries the image of MDS."""
    # downloads beside compiles: what is fetched here is small against what is compiled
    pod_root, packages, *_ = together(
        pod_root_file_system, mds_packages, node_programs, node_root_file_system, _provider_root_file_system
    )
    with tempfile.TemporaryDirectory() as folder:
        images = [mds_image(pod_root, packages, Path(folder))]
        return built_node_images(engine, mds_reference(), images)


def mds_reference() -> str:
    """Return the reference of MDS's image; its tag is a key of all that is in it, so a change has another name."""
    return f"{_REPOSITORY}/mds:{key_of(_REQUIREMENTS, _POD_PYTHON, *POD_PACKAGES, _MDS)}"


def mds_packages() -> Path:
    """Return a folder with the Python packages of MDS for the Python of pods, installed where it is not there yet."""

    def build(folder: Path) -> None:
        log = log_file("mds-packages")
        log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(folder)]
        command += ["--python-version", _POD_PYTHON, "--only-binary=:all:", "--requirement", str(_REQUIREMENTS)]
        with step("Python packages of MDS"):
            run(command, deadline_s=900, log=log)

    return artefact("mds-packages", key_of(_REQUIREMENTS, _POD_PYTHON), build)


def mds_image(pod_root: Path, packages: Path, scratch: Path) -> Image:
    """Describe the image of MDS: root file system, Python packages, our service; layers are written into `scratch`."""
    site = "/usr/local/lib/python3.11/dist-packages"
    dependencies = layer_of(scratch / "mds-packages.layer", {site: packages})
    init = Path(__file__).parent / "__init__.py"
    service = layer_of(scratch / "mds.layer", {f"{site}/lakehouse/__init__.py": init, f"{site}/lakehouse/mds": _MDS})
    return Image(mds_reference(), (pod_root, dependencies, service), ("python3", "-m", "lakehouse.mds"))


def mds_archive(folder: Path) -> Path:
    """Write the image of MDS as an archive into `folder`, for nodes whose own image does not carry it."""
    images = [mds_image(pod_root_file_system(), mds_packages(), folder)]
    return write_archive(folder / "mds.tar", images)


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
