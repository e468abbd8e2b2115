"""Image archives (the format of `docker save`) of programs and folders, without a container engine.

Several images of one archive share the layers that they have in common, which an engine's build and save would write,
compress and store several times over.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# All files of our layers carry this time, so that the same inputs give the same bytes.
_EPOCH = 0


@dataclass(frozen=True)
class Image:
    """An image to put into an archive: its name, its layers (tar files, lowest first), and how it is run."""

    reference: str
    layers: tuple[Path, ...]
    entrypoint: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def layer_of(target: Path, contents: dict[str, Path], *, compiled: bool = False) -> Path:
    """Write a layer to `target`: each path in the image with the file or folder that goes there, owned by root.

    Python's byte code is left out, as it may be of another Python, unless it was `compiled` for the image.
    """

    def as_root(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if "__pycache__" in info.name and not compiled:
            return None
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mtime = _EPOCH
        return info

    with tarfile.open(target, "w") as tar:
        for path, source in contents.items():
            tar.add(source, arcname=path.lstrip("/"), filter=as_root)
    return target


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mtime = _EPOCH
    tar.addfile(info, io.BytesIO(data))


def write_archive(target: Path, images: Sequence[Image]) -> Path:
    """Write an archive of images to `target` and return it."""
    digests = {layer: _digest(layer) for image in images for layer in image.layers}
    manifest = []
    with tarfile.open(target, "w") as tar:
        # by digest, for two layers of the same bytes are one
        for digest, layer in {digest: layer for layer, digest in digests.items()}.items():
            tar.add(layer, arcname=f"{digest}.tar", filter=_without_owner)
        for image in images:
            config = _config(image, [digests[layer] for layer in image.layers])
            name = f"{hashlib.sha256(config).hexdigest()}.json"
            _add_bytes(tar, name, config)
            layers = [f"{digests[layer]}.tar" for layer in image.layers]
            manifest.append({"Config": name, "RepoTags": [image.reference], "Layers": layers})
        _add_bytes(tar, "manifest.json", json.dumps(manifest).encode())
    return target


def _without_owner(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = _EPOCH
    return info


def _config(image: Image, digests: Sequence[str]) -> bytes:
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": [path, *(f"{key}={value}" for key, value in image.environment.items())],
            "Entrypoint": list(image.entrypoint) or None,
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created_by": "lakehouse-chaos"} for _ in digests],
    }
    return json.dumps(config, sort_keys=True).encode()
