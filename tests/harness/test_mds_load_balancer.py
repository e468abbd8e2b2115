"""The region's load balancer with real HAProxy, in front of servers that die."""

from __future__ import annotations

import csv
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from mds_lab import DEADLINE_S, program

from gameday.shell import free_port
from gameday.waiting import wait_until
from lakehouse.provider import Backend, Frontend, load_balancer_config


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as socketserver has it
        """Say nothing of clients that were cut off, which is what the tests do."""


class Node:
    """A node with a replica: ready until told otherwise; /slow is answered when released, /cut never."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready = True
        self.slow = threading.Event()
        self.served: Counter[str] = Counter()
        node = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path = self.path
                checked = path == "/readyz"
                if not checked:
                    node.served[path] += 1
                if path == "/slow":
                    node.slow.wait(DEADLINE_S)
                if path == "/cut":
                    self.close_connection = True
                    return
                self.send_response(503 if checked and not node.ready else 200)
                self.send_header("Content-Length", str(len(node.name)))
                self.end_headers()
                self.wfile.write(node.name.encode())

            do_GET = do_POST = answer  # noqa: N815 - the names that http.server looks for

            def log_message(self, *_: Any) -> None:  # noqa: ANN401 - as http.server has it
                """Say nothing."""

        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def backend(self) -> Backend:
        """How the load balancer finds it."""
        return Backend(self.name, "127.0.0.1", self._server.server_port)

    def stop(self) -> None:
        """Close its port: who connects is refused."""
        self._server.shutdown()
        self._server.server_close()


class Balancer:
    """A running HAProxy."""

    def __init__(self, nodes: list[Node], folder: Path) -> None:
        port, self._state_port = free_port(), free_port()
        path = folder / "haproxy.cfg"
        path.write_text(
            load_balancer_config([Frontend("mds", port, [node.backend for node in nodes])], self._state_port)
        )
        self.process = subprocess.Popen([program("haproxy"), "-db", "-f", str(path)], stderr=subprocess.DEVNULL)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=15, trust_env=False)

    def state(self) -> dict[str, str]:
        """Return the state of every server, as HAProxy's own page has it."""
        page = httpx.get(f"http://127.0.0.1:{self._state_port}/stats;csv", timeout=5, trust_env=False).text
        rows = csv.DictReader(page.removeprefix("# ").splitlines())
        return {row["svname"]: row["status"] for row in rows if row["pxname"] == "mds" and row["svname"] != "BACKEND"}

    def wait_for(self, name: str, status: str) -> None:
        """Wait until a server has a state."""

        def look() -> str | None:
            try:
                seen = self.state().get(name)
            except httpx.TransportError as error:
                return repr(error)
            return None if seen == status else f"{seen}"

        wait_until(f"{name} to be {status}", look, deadline_s=DEADLINE_S, every_s=0.05)


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    """Three nodes."""
    nodes = [Node(f"zone-{letter}") for letter in "abc"]
    yield nodes
    for node in nodes:
        node.slow.set()
        node.stop()


@pytest.fixture
def balancer(nodes: list[Node], tmp_path: Path) -> Iterator[Balancer]:
    """A load balancer in front of the three nodes, which has checked each of them."""
    balancer = Balancer(nodes, tmp_path)
    try:
        for node in nodes:
            balancer.wait_for(node.name, "UP")
        yield balancer
    finally:
        balancer.http.close()
        balancer.process.kill()
        balancer.process.wait(DEADLINE_S)


def test_the_configuration_is_valid(nodes: list[Node], tmp_path: Path) -> None:
    """HAProxy itself accepts it, without a warning."""
    path = tmp_path / "haproxy.cfg"
    path.write_text(load_balancer_config([Frontend("mds", 8181, [node.backend for node in nodes])]))
    done = subprocess.run([program("haproxy"), "-c", "-f", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr


def test_a_burst_is_spread_evenly(nodes: list[Node], balancer: Balancer) -> None:
    """Of twelve requests at once each of three nodes has four."""
    with ThreadPoolExecutor(12) as threads:
        held = [threads.submit(balancer.http.get, "/slow") for _ in range(12)]
        wait_until(
            "all requests to arrive",
            lambda: None if sum(node.served["/slow"] for node in nodes) == 12 else "fewer",
            deadline_s=DEADLINE_S,
            every_s=0.02,
        )
        for node in nodes:
            node.slow.set()
        assert {answer.result(DEADLINE_S).status_code for answer in held} == {200}
    assert [node.served["/slow"] for node in nodes] == [4, 4, 4]


def test_no_request_is_lost_when_a_node_refuses(nodes: list[Node], balancer: Balancer) -> None:
    """From the moment that a node takes no connections, every request is answered by another, also before a check."""
    nodes[0].stop()
    answers = [balancer.http.post("/load", content=b"x") for _ in range(30)]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.text for answer in answers} == {"zone-b", "zone-c"}
    balancer.wait_for("zone-a", "DOWN")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_that_reached_a_server_is_not_sent_again(nodes: list[Node], balancer: Balancer, method: str) -> None:
    """What its server breaks off may have been carried out: the client is told, and nobody repeats it."""
    answer = balancer.http.request(method, "/cut")
    assert answer.status_code == 502
    assert sum(node.served["/cut"] for node in nodes) == 1


def test_an_unready_node_gets_nothing_new_and_finishes_what_it_has(nodes: list[Node], balancer: Balancer) -> None:
    """Once checks fail new requests go elsewhere, and what the node still answers arrives; it comes back when ready."""
    with ThreadPoolExecutor(3) as threads:
        held = [threads.submit(balancer.http.get, "/slow") for _ in range(3)]
        wait_until(
            "each node to hold a request",
            lambda: None if all(node.served["/slow"] == 1 for node in nodes) else "not yet",
            deadline_s=DEADLINE_S,
            every_s=0.02,
        )
        nodes[0].ready = False
        balancer.wait_for("zone-a", "DOWN")
        assert {balancer.http.get("/load").text for _ in range(6)} == {"zone-b", "zone-c"}
        for node in nodes:
            node.slow.set()
        assert {answer.result(DEADLINE_S).text for answer in held} == {"zone-a", "zone-b", "zone-c"}
    nodes[0].ready = True
    balancer.wait_for("zone-a", "UP")
    assert {balancer.http.get("/load").text for _ in range(6)} == {"zone-a", "zone-b", "zone-c"}
