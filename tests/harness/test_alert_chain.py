"""The whole way of an alert on loopback, by the real programs: HAProxy, Prometheus, two Alertmanagers, the harness."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import yaml
from mds_lab import DEADLINE_S, program
from monitoring_lab import alertmanager_command, monitoring_program, watched

from gameday.alerts import PATH, AlertReceiver
from gameday.shell import free_port
from gameday.timeline import Event, Timeline, read_timeline
from gameday.waiting import wait_until
from lakehouse.alert_rules import ERRORS_OVER_S, LOAD_BALANCER, SELF, alert_rules
from lakehouse.mds_formation import MDS
from lakehouse.monitoring_formation import alertmanager_config, prometheus_config
from lakehouse.provider import Backend, Frontend, load_balancer_config

pytestmark = pytest.mark.needs("monitoring")

EACH = "1s"


class Server(BaseHTTPRequestHandler):
    """A server of MDS that is well."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:  # noqa: ANN401 - as http.server has it
        """Say nothing."""


class Chain:
    """The programs, as they are set up in a region but for addresses and shorter intervals."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        names = ("server", "balancer", "state", "prometheus", "receiver", "one", "two", "peers-one", "peers-two")
        self.ports = {name: free_port() for name in names}
        self.timeline = Timeline(folder / "timeline.jsonl")
        receiver = AlertReceiver(self.timeline)
        receiver.start("127.0.0.1", self.ports["receiver"])
        stack.callback(receiver.stop)
        backend = Backend("zone-a", "127.0.0.1", self.ports["server"])
        balancer = load_balancer_config([Frontend("mds", self.ports["balancer"], [backend])], self.ports["state"])
        (folder / "haproxy.cfg").write_text(balancer)
        self._run(program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg"))
        for name, other in (("one", "two"), ("two", "one")):
            self._alertmanager(name, self.ports[f"peers-{other}"])
        self._prometheus()

    def _run(self, *command: str) -> None:
        with (self._folder / f"{Path(command[0]).name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self._stack.callback(process.wait, DEADLINE_S)
        self._stack.callback(process.kill)

    def _alertmanager(self, name: str, other: int) -> None:
        settings = alertmanager_config(f"http://127.0.0.1:{self.ports['receiver']}{PATH}")
        settings["route"] |= {"group_wait": EACH, "group_interval": EACH}
        path = self._folder / f"{name}.yml"
        path.write_text(yaml.safe_dump(settings))
        self._run(
            *alertmanager_command(), f"--config.file={path}",
            f"--storage.path={self._folder / name}", f"--web.listen-address=127.0.0.1:{self.ports[name]}",
            f"--cluster.listen-address=127.0.0.1:{self.ports[f'peers-{name}']}", f"--cluster.peer=127.0.0.1:{other}",
            "--cluster.advertise-address=127.0.0.1:" + str(self.ports[f"peers-{name}"]),
            "--cluster.peer-timeout=3s", "--cluster.settle-timeout=5s",
        )  # fmt: skip

    def _prometheus(self) -> None:
        settings = prometheus_config([], "127.0.0.1")
        settings["global"] = {"scrape_interval": EACH, "scrape_timeout": EACH, "evaluation_interval": EACH}
        jobs = {job["job_name"]: job for job in settings["scrape_configs"]}
        jobs[SELF]["static_configs"] = [{"targets": [f"127.0.0.1:{self.ports['prometheus']}"]}]
        jobs[LOAD_BALANCER]["static_configs"] = [{"targets": [f"127.0.0.1:{self.ports['state']}"]}]
        settings["scrape_configs"] = [jobs[SELF], jobs[LOAD_BALANCER]]
        targets = [f"127.0.0.1:{self.ports[name]}" for name in ("one", "two")]
        settings["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": targets}]}]
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
        rules = yaml.safe_dump(alert_rules({MDS: watched()[MDS]})).replace(f"[{ERRORS_OVER_S}s]", "[5s]")
        (self._folder / "rules.yml").write_text(rules)
        self._run(
            monitoring_program("prometheus"), f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}", "--rules.alert.resend-delay=5s",
            f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}",
        )  # fmt: skip

    def serve(self) -> None:
        """Start the one server behind the load balancer."""
        server = ThreadingHTTPServer(("127.0.0.1", self.ports["server"]), Server)
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)

    def ask(self) -> int:
        """Return the status of an answer that a client gets."""
        return httpx.get(f"http://127.0.0.1:{self.ports['balancer']}/", timeout=5, trust_env=False).status_code

    def peers(self) -> list[int]:
        """Return of how many Alertmanagers each knows, itself included."""
        urls = [f"http://127.0.0.1:{self.ports[name]}/api/v2/status" for name in ("one", "two")]
        return [len(httpx.get(url, timeout=5, trust_env=False).json()["cluster"]["peers"]) for url in urls]

    def alerts(self) -> list[Event]:
        """Return what has been received."""
        return read_timeline(self.timeline.path)

    def await_alert(self, kind: str, name: str, deadline_s: float = 60.0) -> Event:
        """Wait for a notification, with a client that asks all the time."""
        found: list[Event] = []

        def look() -> str | None:
            try:
                self.ask()
            except httpx.TransportError:
                return "the load balancer is not there yet"
            found[:] = [event for event in self.alerts() if event.kind == kind and event["alert"] == name]
            return None if found else f"{[(event.kind, event.get('alert')) for event in self.alerts()]}"

        wait_until(f"{kind} of {name}", look, deadline_s=deadline_s, every_s=0.1)
        return found[0]


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    """Return the programs, running."""
    with ExitStack() as stack:
        yield Chain(tmp_path, stack)


def test_an_outage_is_told_once_and_so_is_its_end(chain: Chain) -> None:
    """Nobody serves, so clients get errors: both are told. Then somebody does, and both are over. Two tell it once."""
    unreachable = chain.await_alert("alert.firing", "FormationUnreachable")
    errors = chain.await_alert("alert.firing", "FormationErrors")
    assert unreachable["labels"] == {
        "alertname": "FormationUnreachable", "formation": "mds", "severity": "critical",
    }  # fmt: skip
    assert errors["summary"] == "Of the answers that clients of mds had in 30 s, 100% are server errors."
    assert (chain.ask(), chain.peers()) == (503, [2, 2])
    chain.serve()
    for name in ("FormationUnreachable", "FormationErrors"):
        over = chain.await_alert("alert.resolved", name)
        assert over["ends_wall"] > over["starts_wall"]
    assert chain.ask() == 200
    told = [(event.kind, event["alert"]) for event in chain.alerts()]
    assert sorted(told) == [
        (kind, name)
        for kind in ("alert.firing", "alert.resolved")
        for name in ("FormationErrors", "FormationUnreachable")
    ]
