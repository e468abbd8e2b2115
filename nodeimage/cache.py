"""Artefacts of the build: kept outside the checkout under a key of their inputs, made once, whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gameday.paths import cache_dir


def key_of(*inputs: str | bytes | Path) -> str:
    """Return a short key of texts, bytes and files (their names and bytes; folders recursively, in a fixed order)."""
    digest = hashlib.sha256()
    for item in inputs:
        for name, data in _parts(item):
            digest.update(f"{len(name)}:{name}:{len(data)}:".encode())
            digest.update(data)
    return digest.hexdigest()[:16]


def _parts(item: str | bytes | Path) -> Iterator[tuple[str, bytes]]:
    if isinstance(item, bytes):
        yield "", item
    elif isinstance(item, str):
        yield "", item.encode()
    elif item.is_dir():
        for path in sorted(item.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(item)), path.read_bytes()
    else:
        yield item.name, item.read_bytes()


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock of the cache, so that two processes do not build the same thing at the same time."""
    path = cache_dir() / "locks"
    path.mkdir(exist_ok=True)
    with (path / name).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def artefact(name: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return the folder of an artefact, building it where it is not there.

    `build` fills an empty folder; that is moved into place only when it returned, so an interrupted build leaves no
    half of an artefact behind. Older versions of the same artefact are removed.
    """
    target = cache_dir() / name / key
    with locked(f"artefact-{name}"):
        if target.exists():
            return target
        scratch = target.with_name(f"{key}.part")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        build(scratch)
        for old in target.parent.iterdir():
            if old != scratch:
                shutil.rmtree(old)
        scratch.rename(target)
    return target
