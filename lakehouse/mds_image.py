"""The image of MDS: the root file system of pods, Python packages, and the service written here."""

from __future__ import annotations

from pathlib import Path

from lakehouse.python_packages import SHARED, SITE, packages_key, python_packages, service_files
from nodeimage.archive import Image, layer_of
from nodeimage.cache import key_of

_MDS = Path(__file__).parent / "mds"
_REQUIREMENTS = _MDS / "requirements.txt"
_REPOSITORY = "localhost/lakehouse"


def mds_reference() -> str:
    """Return the reference of MDS's image; its tag is a key of all that is in it, so a change has another name."""
    return f"{_REPOSITORY}/mds:{key_of(mds_packages_key(), _MDS, *SHARED)}"


def mds_packages_key() -> str:
    """Return the key of what `mds_packages` is made of, the root file system of pods included."""
    return packages_key(_REQUIREMENTS)


def mds_packages() -> Path:
    """Return a folder with the Python packages of MDS for the Python of pods, installed where it is not there yet."""
    return python_packages("mds", "MDS", _REQUIREMENTS)


def packages_layer(packages: Path, scratch: Path) -> Path:
    """Return the layer of MDS's packages, which other images share, written into `scratch` where it is not there."""
    layer = scratch / "mds-packages.layer"
    return layer if layer.exists() else layer_of(layer, {SITE: packages}, compiled=True)


def mds_image(pod_root: Path, packages: Path, scratch: Path) -> Image:
    """Describe the image of MDS: root file system, Python packages, our service; layers are written into `scratch`."""
    service = layer_of(scratch / "mds.layer", service_files(_MDS))
    layers = (pod_root, packages_layer(packages, scratch), service)
    return Image(mds_reference(), layers, ("python3", "-m", "lakehouse.mds"))
