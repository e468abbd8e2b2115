"""rclone, of Debian's packages: that of the provider's services, for the image of what takes backups and for tests."""

from __future__ import annotations

from pathlib import Path

from gameday.shell import run
from nodeimage.cache import artefact, key_of
from nodeimage.rootfs import PROVIDER_PACKAGES, RELEASE, root_file_system

RCLONE = "usr/bin/rclone"


def rclone_key() -> str:
    """Return the key of what `rclone_package` is made of."""
    return key_of(RELEASE, *PROVIDER_PACKAGES, RCLONE)


def rclone_package() -> Path:
    """Return a folder with rclone in `usr/bin`, made where it is not there; it needs a libc alone."""

    def build(folder: Path) -> None:
        root = root_file_system("provider", PROVIDER_PACKAGES)
        run(["tar", "--extract", "--file", str(root), "--directory", str(folder), f"./{RCLONE}"])

    return artefact("rclone", rclone_key(), build)
