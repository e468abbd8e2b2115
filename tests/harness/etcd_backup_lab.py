"""An etcd with metadata as Milvus has it, and an object store, on loopback; snapshots by the program of the pod."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from milvus_lab import BUCKET, KEY, SECRET, MilvusLab
from pyarrow.fs import S3FileSystem

from gameday.errors import HarnessError
from gameday.paths import PROJECT
from gameday.shell import free_port
from gameday.waiting import wait_until
from lakehouse.backup_settings import ETCD_BACKUPS, schedules
from lakehouse.backups.backup import Backup
from lakehouse.backups.etcd import Snapshots
from lakehouse.provider import keys, remote
from lakehouse.rclone_package import RCLONE, rclone_package
from nodeimage.programs import etcd_tools

_SEGMENTS = "by-dev/meta/datacoord-meta/s/7/all"


def _rclone_folder() -> str:
    found = shutil.which("rclone")
    return str(Path(found).parent) if found else str((rclone_package() / RCLONE).parent)


@dataclass
class EtcdBackupLab:
    """What is backed up, where to, and what does it."""

    lab: MilvusLab

    def begin(self) -> None:
        """Start etcd and the store, with a segment that is referred to."""
        for name in ("etcd", "peer", "store"):
            self.lab.ports[name] = free_port()
        for bucket in ("backups", "vector-copies"):
            (self.lab.folder / "store" / bucket).mkdir(parents=True)
        self.lab.begin_etcd()
        self.lab.begin_store()
        wait_until("etcd", lambda: None if self.ran("etcdctl", "endpoint", "health") == 0 else "no", deadline_s=60)
        wait_until("the store", self._store_answers, deadline_s=60)
        self.put("by-dev/meta/root-coord/database/collection-info/1/7", '{"id": 7}')
        self.segment("first")

    def _store_answers(self) -> str | None:
        try:
            httpx.get(f"http://127.0.0.1:{self.lab.ports['store']}/", timeout=2, trust_env=False)
        except httpx.HTTPError as error:
            return str(error)
        return None

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of the pod."""
        store = f"http://127.0.0.1:{self.lab.ports['store']}"
        kinds = {one.kind: {"formation": one.formation, "every_s": 60} for one in schedules(("mds", "milvus"), 60)}
        member = f"127.0.0.1:{self.lab.ports['etcd']}"
        return {
            # without a machine's settings for AWS, which rclone would take
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "PATH": f"{etcd_tools()}:{_rclone_folder()}:{os.environ['PATH']}",
            "ETCDCTL_ENDPOINTS": member,
            "BACKUP_ETCD_MEMBERS": member,
            "BACKUP_ETCD_ROOT": "by-dev",
            "BACKUP_ETCD_TO": "store:backups/etcd",
            "BACKUP_VECTORS": f"live:{BUCKET}",
            "BACKUP_ROOT_PATH": "files",
            "BACKUP_EVERY_SECONDS": "60",
            "BACKUP_KEPT": "2",
            "AGES_OBJECTS": "{}",
            "AGES_STORE": "store:",
            "AGES_KINDS": json.dumps(kinds),
            "RCLONE_CONFIG": "/dev/null",
            **remote("live", store),
            **remote("store", store),
            **dict(keys(("live", "store"), KEY, SECRET)),
        }

    def ran(self, *command: str) -> int:
        """Run a command as the pod would, and return its exit code."""
        return subprocess.run(
            command, env=self._without("BACKUP_"), capture_output=True, check=False, timeout=60
        ).returncode

    def _without(self, prefix: str) -> dict[str, str]:
        return {name: value for name, value in self.environment.items() if not name.startswith(prefix)}

    def in_pod(self, command: Sequence[str]) -> str:
        """Run a command as in the pod; raises HarnessError where it fails."""
        environment = self.environment
        # etcdctl refuses a flag that the environment sets as well
        environment.pop("ETCDCTL_ENDPOINTS")
        words = [sys.executable if word == "python3" else word for word in command]
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, check=False, timeout=120, cwd=PROJECT
        )
        if done.returncode != 0:
            raise HarnessError(f"exited with {done.returncode}: {done.stderr}")
        return done.stdout

    @property
    def files(self) -> S3FileSystem:
        """Return the store as a file system."""
        store = f"127.0.0.1:{self.lab.ports['store']}"
        return S3FileSystem(access_key=KEY, secret_key=SECRET, endpoint_override=f"http://{store}", region="us-east-1")

    @property
    def snapshots(self) -> Snapshots:
        """Return the snapshots of the store."""
        return Snapshots(self.files, self.files, self.in_pod)

    def put(self, key: str, value: str) -> None:
        """Put a key."""
        assert self.ran("etcdctl", "put", key, value) == 0

    def all_keys(self) -> bytes:
        """Return etcd's own answer with all keys there are."""
        member = f"--endpoints={self.environment['ETCDCTL_ENDPOINTS']}"
        return self.in_pod(["etcdctl", member, "get", "", "--prefix", "-w", "json"]).encode()

    def object(self, name: str) -> Path:
        """Return the file of an object that a segment is."""
        return self.lab.folder / "store" / BUCKET / "files" / "insert_log" / "7" / "all" / name

    def segment(self, name: str) -> None:
        """Write a segment as Milvus does: the object, and then the key that refers to it."""
        path = self.object(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 100)
        self.put(f"{_SEGMENTS}/{name}", json.dumps({"path": f"7/all/{name}"}))

    def forget(self, name: str) -> None:
        """Remove the key of a segment."""
        assert self.ran("etcdctl", "del", f"{_SEGMENTS}/{name}") == 0

    def stored(self, backup: Backup, name: str) -> Path:
        """Return the file of a snapshot's object."""
        return self.lab.folder / "store" / "backups" / "etcd" / backup.name / name

    def overwrite(self, backup: Backup, name: str, data: bytes) -> None:
        """Write an object of a snapshot anew by the store, which knows a checksum of it."""
        with self.files.open_output_stream(f"{ETCD_BACKUPS}/{backup.name}/{name}") as stream:
            stream.write(data)

    def problems(self, backup: Backup) -> tuple[str, ...]:
        """Verify a snapshot, and return what is wrong with it."""
        return self.snapshots.verify(backup, lambda _: None).problems
