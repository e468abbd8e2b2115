"""An etcd of one member that is restored from a snapshot on loopback, read, and removed again."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from gameday.errors import DeadlinePassed, HarnessError
from gameday.shell import free_port, run
from gameday.waiting import wait_until
from lakehouse.backup.contents import Contents
from nodeimage.programs import etcd_tools, node_programs

_START_DEADLINE_S = 30.0
_END_S = 10.0
_TAIL = 300


class CannotRestoreError(Exception):
    """A snapshot could not be restored; says why, in etcd's words."""


def status_of(snapshot: Path) -> dict[str, int]:
    """Return what etcdutl says of a snapshot: hash, revision …; raises HarnessError or ValueError where it cannot."""
    command = [str(etcd_tools() / "etcdutl"), "snapshot", "status", str(snapshot), "-w", "json"]
    status: dict[str, int] = json.loads(run(command).stdout)
    return status


def contents_of(snapshot: Path, revision: int) -> Contents:
    """Return what a snapshot holds at a revision; raises CannotRestoreError where it cannot be restored or read."""
    with tempfile.TemporaryDirectory(prefix="scratch-etcd-") as name:
        folder = Path(name)
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        own = ["--initial-cluster", f"default={peer}", "--initial-advertise-peer-urls", peer]
        restore = [str(etcd_tools() / "etcdutl"), "snapshot", "restore", str(snapshot)]
        try:
            run([*restore, "--data-dir", str(folder / "data"), *own])
        except HarnessError as error:
            raise CannotRestoreError(str(error)) from error
        listen = ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
        etcd = [str(node_programs() / "etcd"), "--data-dir", str(folder / "data"), "--log-level", "error"]
        log = folder / "log"
        with log.open("wb") as sink, subprocess.Popen([*etcd, *listen, *own], stdout=sink, stderr=sink) as process:
            try:
                return _read(client, revision, process)
            except (HarnessError, ValueError, KeyError) as error:
                said = " ".join(log.read_text(errors="replace").split())[-_TAIL:]
                raise CannotRestoreError(f"{error} {said}".strip()) from error
            finally:
                process.kill()
                process.wait(timeout=_END_S)


def _read(client: str, revision: int, process: subprocess.Popen[bytes]) -> Contents:
    etcdctl = [str(etcd_tools() / "etcdctl"), f"--endpoints={client}"]

    def look() -> str | None:
        if process.poll() is not None:
            raise HarnessError(f"the restored etcd ended with {process.returncode}")
        return None if run([*etcdctl, "endpoint", "health"], check=False).returncode == 0 else "it is not healthy"

    try:
        wait_until("the restored etcd to answer", look, deadline_s=_START_DEADLINE_S)
    except DeadlinePassed as error:
        raise HarnessError(str(error)) from error
    # without expired leases: at the revision they were still there
    return Contents.of_answer(run([*etcdctl, "get", "", "--prefix", f"--rev={revision}", "-w", "json"]).stdout.encode())
