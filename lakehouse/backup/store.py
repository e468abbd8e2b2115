"""Object stores, by rclone: its environment describes them, each as a remote of a name (`store:bucket/prefix`)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

# Backups are named by when they were begun; so names sort by age.
NAMED = "%Y%m%dT%H%M%SZ"
_DEADLINE_S = 120.0
_NO_SUCH_FOLDER = 3


class BackupError(RuntimeError):
    """Something of a backup cannot be done; the message is one sentence for the operator."""


@dataclass(frozen=True)
class Stored:
    """An object: how many bytes it has, and when it was written, in seconds since the epoch."""

    size: int
    wall: float


def objects(place: str) -> dict[str, Stored]:
    """Return all objects under a place, by their names there; none where there is no such prefix.

    Raises BackupError where the store does not answer.
    """
    command = ["rclone", "lsjson", "--recursive", "--files-only", "--fast-list", "--use-server-modtime", place]
    done = _run(command)
    if done.returncode == _NO_SUCH_FOLDER:
        return {}
    listing = json.loads(_said(command, done))
    return {item["Path"]: Stored(item["Size"], datetime.fromisoformat(item["ModTime"]).timestamp()) for item in listing}


def content(place: str) -> bytes:
    """Return an object whole; raises BackupError where it cannot be read."""
    return output(["rclone", "cat", place])


def put(file: Path, place: str) -> None:
    """Write an object, and see that it arrived whole; raises BackupError where it did not."""
    output(["rclone", "copyto", str(file), place])


def remove(place: str) -> None:
    """Remove an object; raises BackupError where that fails."""
    output(["rclone", "deletefile", place])


def output(command: Sequence[str]) -> bytes:
    """Run a program to its end and return what it printed; raises BackupError with what it said where it fails."""
    return _said(command, _run(command))


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(list(command), capture_output=True, check=False, timeout=_DEADLINE_S)
    except subprocess.TimeoutExpired as error:
        raise BackupError(f"`{' '.join(command[:3])}` had not ended after {_DEADLINE_S:g} s") from error
    except OSError as error:
        raise BackupError(f"`{command[0]}` cannot be run: {error}") from error


def _said(command: Sequence[str], done: subprocess.CompletedProcess[bytes]) -> bytes:
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())[-400:]
        raise BackupError(f"`{' '.join(command[:3])}` exited with {done.returncode}: {said}")
    return done.stdout
