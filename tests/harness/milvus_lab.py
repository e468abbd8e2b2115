"""etcd, Kafka, an object store and replicas of the stand-in for Milvus on loopback: real processes, no cluster."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import httpx
import pytest
from pymilvus import MilvusClient

from gameday.paths import PROJECT
from gameday.shell import free_port
from gameday.waiting import wait_until
from lakehouse.kafka_packages import kafka_packages
from lakehouse.milvus.etcd import Etcd, EtcdError
from nodeimage.programs import node_programs

# There is one lab for all tests that use it, so they run in one process.
GROUP = pytest.mark.xdist_group("milvus")
KEY, SECRET = "accesskey", "secretkey"
BUCKET = "vectors"
_DEADLINE_S = 60.0
_CLUSTER_ID = "bGFrZWhvdXNlLWNoYW9zMA"


@dataclass
class MilvusLab:
    """One etcd, one broker and one object store, and as many replicas as a test begins."""

    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    def begin(self) -> None:
        """Start what replicas need."""
        for name in ("etcd", "peer", "kafka", "controller", "store"):
            self.ports[name] = free_port()
        self.begin_etcd()
        self.begin_store()
        controllers = f"0@127.0.0.1:{self.ports['controller']}"
        environment = {
            "KAFKA_NODE_ID": "0",
            "KAFKA_CONTROLLERS": controllers,
            "KAFKA_CLUSTER_ID": _CLUSTER_ID,
            "KAFKA_ADVERTISED": f"127.0.0.1:{self.ports['kafka']}",
            "KAFKA_DATA": str(self.folder / "kafka"),
            "TMPDIR": str(self.folder),
        }
        program = str(PROJECT / "lakehouse" / "kafka" / "broker.py")
        self._start("kafka", [sys.executable, program, "--home", str(kafka_packages())], environment)

    def begin_etcd(self) -> None:
        """Start etcd with what it has."""
        client, peer = (f"http://127.0.0.1:{self.ports[name]}" for name in ("etcd", "peer"))
        command = [str(node_programs() / "etcd"), "--data-dir", str(self.folder / "etcd"), "--log-level", "warn"]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
        command += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
        self._start("etcd", command)

    def begin_store(self) -> None:
        """Start the object store with what it has."""
        bucket = self.folder / "store" / BUCKET
        bucket.mkdir(parents=True, exist_ok=True)
        keys = {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
        command = [str(node_programs() / "versitygw"), "--port", f"127.0.0.1:{self.ports['store']}", "--quiet"]
        self._start("store", [*command, "posix", str(bucket.parent)], keys)

    def replica(self, name: str, *, sabotage: str = "", **settings: str) -> None:
        """Start a replica, without waiting for it; settings are MILVUS_* without these letters, in small ones.

        `sabotage` is Python that is carried out first.
        """
        self.ports[name], self.ports[f"{name}-health"] = free_port(), free_port()
        environment = {
            "MILVUS_ETCD_ENDPOINTS": f"127.0.0.1:{self.ports['etcd']}",
            "MILVUS_KAFKA_BROKERS": f"127.0.0.1:{self.ports['kafka']}",
            "MILVUS_LOG_COPIES": "1",
            "MILVUS_BUCKET": BUCKET,
            "MILVUS_S3_ENDPOINT": f"http://127.0.0.1:{self.ports['store']}",
            "MILVUS_S3_ACCESS_KEY": KEY,
            "MILVUS_S3_SECRET_KEY": SECRET,
            "MILVUS_DATA": str(self.folder / name),
            "MILVUS_PORT": str(self.ports[name]),
            "MILVUS_HEALTH_PORT": str(self.ports[f"{name}-health"]),
            "POD_NAME": name,
            **{f"MILVUS_{key.upper()}": value for key, value in settings.items()},
        }
        begin = f"{sabotage}\nimport sys\nfrom lakehouse.milvus.__main__ import main\nsys.exit(main())"
        command = ["-c", begin] if sabotage else ["-m", "lakehouse.milvus"]
        self._start(name, [sys.executable, *command], environment)

    def await_replica(self, name: str) -> None:
        """Wait until a replica says that it serves."""
        wait_until(f"{name} to serve", lambda: self.health(name), deadline_s=_DEADLINE_S)

    def health(self, name: str) -> str | None:
        """Return what is wrong with a replica, None where nothing is."""
        if self.processes[name].poll() is not None:
            raise AssertionError(f"{name} ended: {self.log(name)[-2000:]}")
        try:
            page = httpx.get(f"http://127.0.0.1:{self.ports[f'{name}-health']}/healthz", timeout=10, trust_env=False)
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}"
        return None if page.status_code == httpx.codes.OK else page.text

    def client(self, name: str) -> MilvusClient:
        """Return pymilvus's own client of a replica."""
        return MilvusClient(f"http://127.0.0.1:{self.ports[name]}", timeout=20)

    def segments(self) -> list[Path]:
        """Return the files of all segments."""
        return sorted(path for path in (self.folder / "store" / BUCKET).rglob("*") if path.is_file())

    def log(self, name: str) -> str:
        """Return what a process printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def end(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """End a process by a signal and return its exit code."""
        process = self.processes.pop(name)
        process.send_signal(number)
        return process.wait(timeout=30)

    def end_all(self) -> None:
        """Kill everything."""
        for name in list(self.processes):
            self.end(name)

    def _start(self, name: str, command: list[str], environment: Mapping[str, str] | None = None) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=PROJECT, env={**os.environ, **(environment or {})}, stdout=log, stderr=log
            )


def eventually(what: str, check: Callable[[], bool]) -> None:
    """Wait until something is so."""
    wait_until(what, lambda: None if check() else "not so", deadline_s=_DEADLINE_S)


@contextmanager
def etcd_alone(folder: Path) -> Iterator[str]:
    """Run an etcd of one member with nothing beside it; yields its HOST:PORT once it answers."""
    lab = MilvusLab(folder)
    lab.ports |= {name: free_port() for name in ("etcd", "peer")}
    lab.begin_etcd()
    endpoint = f"127.0.0.1:{lab.ports['etcd']}"

    def answers() -> bool:
        try:
            Etcd([endpoint]).pairs("by-dev/")
        except EtcdError:
            return False
        return True

    try:
        eventually("etcd", answers)
        yield endpoint
    finally:
        lab.end_all()


class Door:
    """A port that leads to others, one connection after the other, until it is slammed.

    Then whoever tries to enter is noted and sent away.
    """

    def __init__(self, *ports: int) -> None:
        self._to = cycle(("127.0.0.1", port) for port in ports)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.tried: list[float] = []
        self._slammed = False
        self._through: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def slam(self) -> None:
        """End all connections, and those that come from now on at once."""
        self._slammed = True
        for end in self._through:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Be gone."""
        self.slam()
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                if self._slammed:
                    self.tried.append(time.monotonic())
                    client.close()
                    continue
                ends = [client, socket.create_connection(next(self._to))]
                self._through += ends
                for source, sink in (ends, ends[::-1]):
                    threading.Thread(target=self._hand_on, args=(source, sink), daemon=True).start()

    @staticmethod
    def _hand_on(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
