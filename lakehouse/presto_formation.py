"""The formation of Presto: the ConfigMaps and the Secret that its server reads, and what it declares.

Failure detection is that of an operator who wants a dead worker noticed in seconds, not in Presto's five minutes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import httpx

from lakehouse.formation import Entrance, Formation, FormationValues, ImageSource, config_map, secret
from lakehouse.provider import CONSOLE, DATABASE_PORT
from lakehouse.upstream import PRESTO_PROPERTIES, presto_files, presto_pod

NAME = "presto"
COORDINATOR, WORKER = "presto-coordinator", "presto-worker"
DISCOVERY = "presto-discovery"
WORKERS = 3
CATALOGS = "presto-catalogs"
PORT, NODE_PORT = 8080, 30080

# A request without an answer for this long has failed; one takes milliseconds, or 1 s where it waits for news.
REQUEST_TIMEOUT_S = 5
# A query fails when its requests to a worker fail three times and for this long after the first: 15 to 20 s in all.
MAX_ERROR_DURATION_S = 10
# A worker that does not answer two pings a second, each within 2 s, gets no new work when 3 of 10 were missed of late.
PING_INTERVAL_MS = 500
PING_TIMEOUT_S = 2
PING_THRESHOLD = 0.3
PING_DECAY_S = 10
# One whose last answer is so much older than the latest of all is silent.
_SILENT = timedelta(seconds=PING_TIMEOUT_S)
# A worker that comes is watched for this long before it counts.
WARM_UP_S = 2
# A worker that leaves waits for this twice, before and after the end of its tasks; coordinators ask every 5 s.
SHUTDOWN_GRACE_S = 5
# With no worker there a query waits for one: as long as a worker that is ready takes until it is known, at most.
NO_WORKER_WAIT_S = 20
# Queries at work at once; others wait. Small workers that start anew, under all queries that came meanwhile, would have
# time for none of them. Few may wait: of a long queue each is answered when its client is about to give up, long after
# what made it grow is over (with ten, half a minute after a server that had returned was as quick as ever). A worker
# that is lost holds some five of them for 12 s.
CONCURRENT_QUERIES, QUEUED_QUERIES = 5, 4
# What a coordinator answers, one after the other, before it is ready: of each catalog that clients use something small.
_WARM_UP = ("SELECT count(*) FROM tpcds.tiny.call_center", f"SHOW TABLES FROM {CONSOLE}.public")
# A query whose client no longer asks for more is given up. One that lives asks again after 10 s at the latest, so more
# would only leave the places of queries to clients that are gone.
CLIENT_TIMEOUT_S = 20

DECLARED: Mapping[str, int | str | float] = {
    "presto.query.remote-task.max-error-duration_s": MAX_ERROR_DURATION_S,
    "presto.exchange.max-error-duration_s": MAX_ERROR_DURATION_S,
    "presto.http-client.request-timeout_s": REQUEST_TIMEOUT_S,
    "presto.failure-detector.heartbeat-interval_ms": PING_INTERVAL_MS,
    "presto.failure-detector.request-timeout_s": PING_TIMEOUT_S,
    "presto.failure-detector.threshold": PING_THRESHOLD,
    "presto.failure-detector.exponential-decay-seconds": PING_DECAY_S,
    "presto.failure-detector.warmup-interval_s": WARM_UP_S,
    "presto.shutdown.grace-period_s": SHUTDOWN_GRACE_S,
    "presto.query-manager.required-workers-max-wait_s": NO_WORKER_WAIT_S,
    "presto.query.client.timeout_s": CLIENT_TIMEOUT_S,
    "presto.query.max-concurrent-queries": CONCURRENT_QUERIES,
    "presto.query.max-queued-queries": QUEUED_QUERIES,
}

# Of a worker 300 MB may be one array: the pool that TPC-H's generator cuts its comments from, made at the first query
# (4 s of work). It has to fit into the old generation in one piece, so the young one is kept small.
_HEAP = {COORDINATOR: "-Xmx320m\n", WORKER: "-Xmx512m\n-Xmn48m\n"}
# One thread compiles and collects, for the cores are shared by all pods of a node. Byte code is not verified, which is
# a tenth of what a server needs to start: all of it comes with the image, whose packages are checked by their digests.
# Half of the rest is compiling, and less of that where little is compiled into its callers.
_JVM = """\
-Xms64m
-Xss512k
-XX:+UseSerialGC
-XX:TieredStopAtLevel=1
-XX:CICompilerCount=1
-XX:MaxInlineLevel=2
-XX:MaxInlineSize=20
-XX:ReservedCodeCacheSize=96m
-XX:+UnlockDiagnosticVMOptions
-XX:-BytecodeVerificationRemote
-XX:-UsePerfData
-XX:+ExitOnOutOfMemoryError
-Djdk.attach.allowAttachSelf=true
-Dfile.encoding=UTF-8
"""
_LOG = "com.facebook=INFO\nBootstrap=WARN\n"
_TPCH = "connector.name=tpch\n"
# what a small query costs, it costs for each split
_TPCDS = "connector.name=tpcds\ntpcds.splits-per-node=1\n"

# A worker that answers counts as one that works after the warm-up of the failure detector, and is active when the list
# of nodes is made again, each 5 s (DiscoveryNodeManager).
_KNOWN_S = WARM_UP_S + 5.0 + 1.0
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

# what an answer that is none, or not a coordinator's, leads to
_UNREADABLE = (httpx.HTTPError, ValueError, KeyError, TypeError)

_CLIENTS = ("scheduler", "exchange", "workerInfo", "memoryManager", "node-manager", "discovery")


def config(values: FormationValues) -> list[dict[str, Any]]:
    """Return the ConfigMaps of coordinator, worker and catalogs, and the Secret with the catalog of the console."""
    # the environment is what nodes of one cluster have in common, and takes neither dashes nor capitals
    environment = re.sub(r"[^a-z0-9_]", "_", values.region.lower())
    node = f"node.environment={environment}\nnode.id=${{POD_NAME}}\nnode.internal-address=${{POD_IP}}\n"
    node += f"node.location=/{values.region}/${{ZONE}}/${{NODE_NAME}}/${{POD_NAME}}\n"
    files, more = (presto_files(), PRESTO_PROPERTIES) if values.source is ImageSource.UPSTREAM else ({}, {})
    common = {"node.properties": node, "log.properties": _LOG, **files}
    servers = ((COORDINATOR, {**_coordinator(), **more}), (WORKER, {**_worker(), **more}))
    maps = [
        config_map(name, NAME, {**common, "jvm.config": _HEAP[name] + _JVM, "config.properties": _properties(settings)})
        for name, settings in servers
    ]
    maps[0]["data"]["warm-up.sql"] = "".join(f"{statement}\n" for statement in _WARM_UP)
    catalogs = config_map(CATALOGS, NAME, {"tpcds.properties": _TPCDS, "tpch.properties": _TPCH})
    return [*maps, catalogs, secret(CATALOGS, NAME, {f"{CONSOLE}.properties": _properties(_console(values))})]


def _properties(settings: Mapping[str, object]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _common() -> dict[str, object]:
    return {
        "http-server.http.port": PORT,
        "http-server.log.enabled": "false",
        "catalog.config-dir": "/etc/presto/catalog",
        "shutdown.grace-period": f"{SHUTDOWN_GRACE_S}s",
        "query.max-memory": "256MB",
        "query.max-memory-per-node": "96MB",
        "query.max-total-memory-per-node": "160MB",
        "memory.heap-headroom-per-node": "100MB",
        "exchange.max-error-duration": f"{MAX_ERROR_DURATION_S}s",
        "exchange.max-buffer-size": "2MB",
        "sink.max-buffer-size": "2MB",
        # what has ended is looked through five times a second as long as it is known: with a query a second, and the
        # 15 min that it is known by itself, that took a tenth of a core
        "task.info.max-age": "1m",
    }


def _coordinator() -> dict[str, object]:
    pings = "failure-detector"
    return {
        "coordinator": "true",
        "node-scheduler.include-coordinator": "false",
        "discovery-server.enabled": "true",
        # itself: by its Service it might find another, whose machine is lost
        "discovery.uri": f"http://127.0.0.1:{PORT}",
        **_common(),
        **_timeouts(_CLIENTS),
        "query.remote-task.max-error-duration": f"{MAX_ERROR_DURATION_S}s",
        "query-manager.required-workers-max-wait": f"{NO_WORKER_WAIT_S}s",
        "query.client.timeout": f"{CLIENT_TIMEOUT_S}s",
        "query.max-concurrent-queries": CONCURRENT_QUERIES,
        "query.max-queued-queries": QUEUED_QUERIES,
        "query.min-expire-age": "1m",
        # What is saved in the console is a row or few. Spread over all workers, each of them would begin a writer with
        # a connection of its own to the database: 0.8 s of CPU for a row instead of 0.5 s.
        "redistribute-writes": "false",
        f"{pings}.heartbeat-interval": f"{PING_INTERVAL_MS}ms",
        f"{pings}.threshold": PING_THRESHOLD,
        f"{pings}.exponential-decay-seconds": PING_DECAY_S,
        f"{pings}.warmup-interval": f"{WARM_UP_S}s",
        f"{pings}.http-client.connect-timeout": "1s",
        f"{pings}.http-client.request-timeout": f"{PING_TIMEOUT_S}s",
        f"{pings}.http-client.idle-timeout": f"{PING_TIMEOUT_S}s",
    }


def _worker() -> dict[str, object]:
    return {
        "coordinator": "false",
        "discovery.uri": f"http://{DISCOVERY}:{PORT}",
        **_common(),
        **_timeouts(("exchange", "node-manager", "discovery")),
        "task.max-worker-threads": 4,
        "task.concurrency": 2,
    }


def _timeouts(clients: tuple[str, ...]) -> dict[str, object]:
    # a connection that swallows everything is given up by the idle time-out
    return {
        f"{name}.http-client.{what}": figure
        for name in clients
        for what, figure in (
            ("connect-timeout", "1s"),
            ("request-timeout", f"{REQUEST_TIMEOUT_S}s"),
            ("idle-timeout", f"{REQUEST_TIMEOUT_S}s"),
        )
    }


def _console(values: FormationValues) -> dict[str, object]:
    # such a statement takes milliseconds; without these a database that is gone would hold a query for ever
    options = "connectTimeout=5&socketTimeout=30&tcpKeepAlive=true"
    return {
        "connector.name": "postgresql",
        "connection-url": f"jdbc:postgresql://{values.database_address}:{DATABASE_PORT}/{CONSOLE}?{options}",
        "connection-user": CONSOLE,
        "connection-password": values.console_password,
        # the console tidies up what it made, and a check what it tried
        "allow-drop-table": "true",
    }


def lacks(address: str) -> str | None:
    """Tell how many workers the coordinator still waits for: one that is ready is active only some 15 s later.

    One that is gone stays active until it is found to have failed, so only those count that answer the coordinator; and
    one that has begun to answer may not be active yet while one that is gone still is, so each has to have been known
    for as long as it takes to be both.
    """
    try:
        active, ages_s = _asked(address, "/v1/cluster")["activeWorkers"], _answering(_asked(address, "/v1/node"))
    except _UNREADABLE as error:
        return f"no answer ({type(error).__name__})"
    if active != WORKERS or len(ages_s) != WORKERS:
        return f"{active} of {WORKERS} workers active, {len(ages_s)} answering"
    return f"a worker known for {min(ages_s):.0f} of {_KNOWN_S:.0f} s" if min(ages_s) < _KNOWN_S else None


def lacks_all(address: str) -> str | None:
    """Tell that the coordinator knows no worker yet, so that it could answer no query."""
    try:
        active = _asked(address, "/v1/cluster")["activeWorkers"]
    except _UNREADABLE as error:
        return f"no answer ({type(error).__name__})"
    return None if active else "no worker is active"


def _asked(address: str, path: str) -> Any:  # noqa: ANN401 - whatever JSON it is
    return httpx.get(f"{address}{path}", timeout=2, trust_env=False).json()


def _answering(nodes: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return for how many seconds each worker is known that answered of late; each is asked twice a second.

    One that it has found gone is listed for minutes more and not asked, so "of late" is by the latest answer of all.
    A refused connection counts as a response there (of one that ended in peace, for half a minute), and as a failure.
    """
    answered = [
        (datetime.fromisoformat(node["lastResponseTime"]), float(node["recentFailureRatio"]), node["age"])
        for node in nodes
        if node.get("lastResponseTime")
    ]
    latest = max((at for at, _, _ in answered), default=None)
    return [_seconds(age) for at, ratio, age in answered if latest and latest - at < _SILENT and ratio < PING_THRESHOLD]


def _seconds(duration: str) -> float:
    """Return the seconds of a duration as Presto writes it, such as `1.63m`; raises ValueError for another text."""
    found = re.fullmatch(r"([0-9.]+)(ns|us|ms|s|m|h|d)", duration)
    if not found:
        raise ValueError(f"{duration!r} is no duration")
    return float(found[1]) * _UNITS_S[found[2]]


PRESTO = Formation(
    name=NAME,
    deployments={COORDINATOR: 1, WORKER: WORKERS},
    # there is one coordinator: to give it up for being slow would send its clients to nobody
    # all nodes lead to the one coordinator, so that each check is one of three
    entrance=Entrance(PORT, NODE_PORT, "/v1/info", falls=3, check_timeout_ms=2000, check_every_ms=1000),
    config=config,
    declared=DECLARED,
    lacks=lacks,
    lacks_all=lacks_all,
    upstream=presto_pod,
)
