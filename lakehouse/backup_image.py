"""The image of what takes backups on the cluster: Velero with its helpers and its plug-in for S3."""

from __future__ import annotations

from pathlib import Path

from nodeimage.archive import Image, layer_of
from nodeimage.cache import key_of
from nodeimage.programs import velero_key
from nodeimage.rootfs import POD_PACKAGES

_REPOSITORY = "localhost/lakehouse"
# Where Velero's own manifests, and pods that it makes itself, look for each.
_PLACES = {
    "velero": "/velero",
    "velero-helper": "/velero-helper",
    "velero-restore-helper": "/velero-restore-helper",
    "velero-plugin-for-aws": "/plugins/velero-plugin-for-aws",
}


def backup_reference() -> str:
    """Return the reference of the image; its tag is a key of all that is in it, so a change has another name."""
    return f"{_REPOSITORY}/backup:{key_of(velero_key(), *_PLACES.values(), *POD_PACKAGES)}"


def backup_image(pod_root: Path, velero: Path, scratch: Path) -> Image:
    """Describe the image over the root file system that all pods share; the layer is written into `scratch`."""
    layer = layer_of(scratch / "backup.layer", {place: velero / name for name, place in _PLACES.items()})
    return Image(backup_reference(), (pod_root, layer))
