"""The image of MDS: the root file system of pods, Python packages, and the service written here."""

from __future__ import annotations

import sys
from pathlib import Path

from gameday.shell import run
from nodeimage.archive import Image, layer_of
from nodeimage.cache import artefact, key_of
from nodeimage.rootfs import POD_PACKAGES
from nodeimage.steps import log_file, step

# What the services written here have in common.
SERVING = Path(__file__).parent / "serving.py"
_MDS = Path(__file__).parent / "mds"
_REQUIREMENTS = _MDS / "requirements.txt"
# Debian 12's, which the root file system of pods has
_POD_PYTHON = "3.11"
_REPOSITORY = "localhost/lakehouse"


def mds_reference() -> str:
    """Return the reference of MDS's image; its tag is a key of all that is in it, so a change has another name."""
    return f"{_REPOSITORY}/mds:{key_of(_REQUIREMENTS, _POD_PYTHON, *POD_PACKAGES, _MDS, SERVING)}"


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
    service = layer_of(scratch / "mds.layer", service_files(site, _MDS))
    return Image(mds_reference(), (pod_root, dependencies, service), ("python3", "-m", "lakehouse.mds"))


def service_files(site: str, package: Path) -> dict[str, Path]:
    """Return what the layer of a service written here holds: the package, and what services have in common."""
    init = package.parent / "__init__.py"
    own = {f"{site}/lakehouse/__init__.py": init, f"{site}/lakehouse/serving.py": SERVING}
    return {**own, f"{site}/lakehouse/{package.name}": package}
