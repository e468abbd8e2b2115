"""Three brokers on loopback that speak just enough of Kafka's protocol to say who they are and where a topic ends.

A real broker that has just begun knows of no brokers for some milliseconds; these know of none for as long as a test
likes. Formats: https://kafka.apache.org/protocol.html, ApiVersions 0, Metadata 3, ListOffsets 1.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

_LIST_OFFSETS, _METADATA, _API_VERSIONS = 2, 3, 18
# one version of each; Produce and Fetch are never used, but a client takes who lacks them for something very old
_VERSIONS = {0: 3, 1: 4, _LIST_OFFSETS: 1, _METADATA: 3, _API_VERSIONS: 0}
_UNSUPPORTED_VERSION, _LEADER_NOT_AVAILABLE = 35, 5
_NOBODY = -1


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


@dataclass
class Brokers:
    """Brokers of one topic with one partition, which one of them leads and which ends at `end`.

    aware   whether they tell of each other; where not, they know of the topic and of no broker
    leader  which of them leads, counted from 0
    silent  those that take connections and answer nothing
    """

    topic: str
    end: int
    count: int = 3
    aware: bool = True
    leader: int = 0
    silent: frozenset[int] = frozenset()
    _servers: dict[int, _Server] = field(default_factory=dict)
    _ports: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start all, each on a free port."""
        for number in range(self.count):
            self._begin(number)

    @property
    def addresses(self) -> str:
        """Where clients begin: HOST:PORT, …."""
        return ",".join(f"127.0.0.1:{port}" for port in self._ports.values())

    def restart(self) -> None:
        """End each with all its connections and start it again on its port, one after the other, the leader last."""
        for number in reversed(range(self.count)):
            self._servers.pop(number).close()
            self._begin(number)

    def close(self) -> None:
        """End all."""
        for server in self._servers.values():
            server.close()

    def _begin(self, number: int) -> None:
        server = self._servers[number] = _Server(self, number, self._ports.get(number, 0))
        self._ports[number] = server.port

    def answer(self, api: int, version: int) -> bytes:
        """Return what any of them answers to a request; raises KeyError for one that they do not know."""
        if api == _API_VERSIONS:
            # who asks in a newer version is told which there are, and asks again
            refusal = 0 if version == _VERSIONS[api] else _UNSUPPORTED_VERSION
            versions = b"".join(struct.pack(">hhh", key, one, one) for key, one in _VERSIONS.items())
            return struct.pack(">hi", refusal, len(_VERSIONS)) + versions
        return {_METADATA: self._metadata, _LIST_OFFSETS: self._offsets}[api]()

    def _metadata(self) -> bytes:
        there = self._ports if self.aware else {}
        brokers = [
            struct.pack(">i", number) + _text("127.0.0.1") + struct.pack(">ih", port, -1)
            for number, port in there.items()
        ]
        problem, leader = (0, self.leader) if self.aware else (_LEADER_NOT_AVAILABLE, _NOBODY)
        copies = struct.pack(">iiii", 1, leader, 1, leader)
        partition = struct.pack(">hii", problem, 0, leader) + copies
        topic = struct.pack(">h", 0) + _text(self.topic) + struct.pack(">bi", 0, 1) + partition
        whole = struct.pack(">ii", 0, len(brokers)) + b"".join(brokers) + _text("cluster")
        return whole + struct.pack(">ii", _NOBODY, 1) + topic

    def _offsets(self) -> bytes:
        return struct.pack(">i", 1) + _text(self.topic) + struct.pack(">iihqq", 1, 0, 0, -1, self.end)


class _Server:
    def __init__(self, brokers: Brokers, number: int, port: int) -> None:
        self._brokers, self._number, self._listener = brokers, number, socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self._lock, self._connections, self._closed = threading.Lock(), [self._listener], False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for one in self._connections:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    connection.close()
                    return
                self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection, connection.makefile("rb") as requests:
            while (request := _message(requests)) is not None:
                if self._number in self._brokers.silent:
                    continue
                api, version, number = struct.unpack_from(">hhi", request)
                answer = struct.pack(">i", number) + self._brokers.answer(api, version)
                connection.sendall(struct.pack(">i", len(answer)) + answer)


def _message(stream: BinaryIO) -> bytes | None:
    size = stream.read(4)
    return stream.read(struct.unpack(">i", size)[0]) if len(size) == 4 else None
