"""A training run of Presto: a server by itself that starts and answers queries, so that its classes are known."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import httpx

from gameday.errors import HarnessError
from gameday.shell import free_port
from gameday.waiting import wait_until
from lakehouse.class_archive import record_classes

# compilers take both cores meanwhile
_READY_DEADLINE_S, _QUERY_DEADLINE_S, _STOP_DEADLINE_S = 900.0, 600.0, 120.0
_TIMEOUT_S = 10.0
# Scans, a join, an aggregation, an order: what the planner and the operators of most queries are made of.
_QUERY = (
    "SELECT o.orderpriority, count(*), sum(l.quantity) FROM tpch.tiny.orders o JOIN tpch.tiny.lineitem l"
    " ON o.orderkey = l.orderkey WHERE l.comment LIKE '%a%'"
    " AND l.linenumber <= (SELECT count(*) FROM tpcds.tiny.ship_mode) GROUP BY 1 ORDER BY 2 DESC LIMIT 3"
)


def train_presto(program: Path, home: Path, scratch: Path, log: Path) -> Path:
    """Run the server of `home` and a query, and return the list of classes that it loaded.

    Raises DeadlinePassed where the server does not start or answer in time, HarnessError where it fails the query.
    """
    listed, port = scratch / "presto.classes", free_port()
    etc = _configured(scratch / "etc", scratch / "data", port, listed)
    command = [sys.executable, str(program), "start", "--home", str(home), "--etc", str(etc)]
    with log.open("ab") as sink, subprocess.Popen(command, stdout=sink, stderr=sink) as server:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_TIMEOUT_S, trust_env=False) as client:
                wait_until("Presto to start", partial(_lacks, client), deadline_s=_READY_DEADLINE_S)
                _run_query(client)
        finally:
            server.terminate()
            server.wait(_STOP_DEADLINE_S)
    return listed


def _configured(etc: Path, data: Path, port: int, listed: Path) -> Path:
    (etc / "catalog").mkdir(parents=True)
    data.mkdir()
    node = f"node.environment=training\nnode.id=training\nnode.internal-address=127.0.0.1\nnode.data-dir={data}\n"
    config = f"coordinator=true\ndiscovery-server.enabled=true\ndiscovery.uri=http://127.0.0.1:{port}\n"
    config += f"http-server.http.port={port}\ncatalog.config-dir={etc}/catalog\n"
    files = {
        "jvm.config": f"-Xmx1g\n-XX:+UseSerialGC\n-Djdk.attach.allowAttachSelf=true\n{record_classes(listed)}\n",
        "node.properties": node,
        "config.properties": config,
        "log.properties": "",
        "catalog/tpch.properties": "connector.name=tpch\n",
        "catalog/tpcds.properties": "connector.name=tpcds\n",
    }
    for name, text in files.items():
        (etc / name).write_text(text)
    return etc


def _lacks(client: httpx.Client) -> str | None:
    """Tell what the server still lacks: it works once it has started and counts itself as a worker."""
    try:
        if client.get("/v1/info").json()["starting"]:
            return "starting"
        active = client.get("/v1/cluster").json()["activeWorkers"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return f"no answer ({type(error).__name__})"
    return None if active else "no worker is active"


def _run_query(client: httpx.Client) -> None:
    state = client.post("/v1/statement", content=_QUERY, headers={"X-Presto-User": "training"}).json()

    def look() -> str | None:
        nonlocal state
        state = client.get(state["nextUri"]).json()
        if "error" in state:
            raise HarnessError(f"Presto's training query failed: {state['error'].get('message')}")
        return state["stats"]["state"] if "nextUri" in state else None

    wait_until("Presto to answer a query", look, deadline_s=_QUERY_DEADLINE_S)
