"""The image of MDS: the root file system of pods, Python packages, and the service written here."""

from __future__ import annotations

import sys
from pathlib import Path

from gameday.shell import run
from nodeimage.archive import Image, layer_of
from nodeimage.cache import artefact, key_of
from nodeimage.image import pod_root_file_system
from nodeimage.rootfs import POD_PACKAGES, compile_python
from nodeimage.steps import log_file, step

# What the services written here have in common.
SERVING = Path(__file__).parent / "serving.py"
_MDS = Path(__file__).parent / "mds"
_REQUIREMENTS = _MDS / "requirements.txt"
# Debian 12's, which the root file system of pods has
_POD_PYTHON = "3.11"
SITE = f"/usr/local/lib/python{_POD_PYTHON}/dist-packages"
_COMPILED = "compiled, unchecked"
_REPOSITORY = "localhost/lakehouse"


def mds_reference() -> str:
    """Return the reference of MDS's image; its tag is a key of all that is in it, so a change has another name."""
    return f"{_REPOSITORY}/mds:{key_of(mds_packages_key(), _MDS, SERVING)}"


def mds_packages_key() -> str:
    """Return the key of what `mds_packages` is made of, the root file system of pods included."""
    return key_of(_REQUIREMENTS, _POD_PYTHON, _COMPILED, *POD_PACKAGES)


def mds_packages() -> Path:
    """Return a folder with the Python packages of MDS for the Python of pods, installed where it is not there yet."""

    def build(folder: Path) -> None:
        log = log_file("mds-packages")
        log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(folder)]
        command += ["--python-version", _POD_PYTHON, "--only-binary=:all:", "--requirement", str(_REQUIREMENTS)]
        with step("Python packages of MDS"):
            run(command, deadline_s=900, log=log)
            compile_python(pod_root_file_system(), folder, SITE, log)

    return artefact("mds-packages", mds_packages_key(), build)


def packages_layer(packages: Path, scratch: Path) -> Path:
    """Return the layer of MDS's packages, which other images share, written into `scratch` where it is not there."""
    layer = scratch / "mds-packages.layer"
    return layer if layer.exists() else layer_of(layer, {SITE: packages}, compiled=True)


def mds_image(pod_root: Path, packages: Path, scratch: Path) -> Image:
    """Describe the image of MDS: root file system, Python packages, our service; layers are written into `scratch`."""
    service = layer_of(scratch / "mds.layer", service_files(_MDS))
    layers = (pod_root, packages_layer(packages, scratch), service)
    return Image(mds_reference(), layers, ("python3", "-m", "lakehouse.mds"))


def service_files(package: Path) -> dict[str, Path]:
    """Return what the layer of a service written here holds: the package, and what services have in common."""
    init = package.parent / "__init__.py"
    own = {f"{SITE}/lakehouse/__init__.py": init, f"{SITE}/lakehouse/serving.py": SERVING}
    return {**own, f"{SITE}/lakehouse/{package.name}": package}
