"""The image of what takes backups on the cluster: Velero, etcd's tools, rclone, and the programs that use them."""

from __future__ import annotations

from pathlib import Path

from lakehouse.python_packages import SITE
from lakehouse.rclone_package import RCLONE, rclone_key
from nodeimage.archive import Image, layer_of
from nodeimage.cache import key_of
from nodeimage.programs import etcd_tools_key, velero_key
from nodeimage.rootfs import POD_PACKAGES

_REPOSITORY = "localhost/lakehouse"
_OURS = Path(__file__).parent / "backup"
# Where Velero's own manifests, and pods that it makes itself, look for each.
_VELERO = {
    "velero": "/velero",
    "velero-helper": "/velero-helper",
    "velero-restore-helper": "/velero-restore-helper",
    "velero-plugin-for-aws": "/plugins/velero-plugin-for-aws",
}
_ETCD_TOOLS = ("etcdctl", "etcdutl")


def backup_reference() -> str:
    """Return the reference of the image; its tag is a key of all that is in it, so a change has another name."""
    parts = (velero_key(), *_VELERO.values(), etcd_tools_key(), rclone_key(), *POD_PACKAGES)
    return f"{_REPOSITORY}/backup:{key_of(*parts, _OURS)}"


def backup_image(pod_root: Path, rclone: Path, velero: Path, etcd_tools: Path, scratch: Path) -> Image:
    """Describe the image over the root file system that all pods share; layers are written into `scratch`."""
    contents = {place: velero / name for name, place in _VELERO.items()}
    contents |= {f"/usr/local/bin/{name}": etcd_tools / name for name in _ETCD_TOOLS}
    contents[f"/{RCLONE}"] = rclone / RCLONE
    programs = layer_of(scratch / "backup-programs.layer", contents)
    package = {f"{SITE}/lakehouse/__init__.py": _OURS.parent / "__init__.py", f"{SITE}/lakehouse/backup": _OURS}
    ours = layer_of(scratch / "backup.layer", package)
    return Image(backup_reference(), (pod_root, programs, ours))
