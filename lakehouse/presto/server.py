# ruff: noqa: INP001 - a program of the image, no module of the harness
"""What Presto's image runs: the server itself, whether it is ready, and its leaving without losing what it works on.

server.py start [--home FOLDER] [--etc FOLDER]     becomes the server
server.py ready [--port PORT]                      exits with 0 when it has started and takes work
server.py drain [--port PORT] [--within SECONDS]   asks a worker to finish what it has and waits until it has ended

The server's home is that of our image, or of Presto's own. That one may have Python 3.6, so annotations which no old
Python can evaluate are strings here, and nothing newer is used.
"""

import argparse
import ctypes
import http.client
import json
import os
import string
import sys
import time
from pathlib import Path
from typing import Any

_MAIN = "com.facebook.presto.server.PrestoServer"
_ADDRESS = "127.0.0.1"
_ASK_S = 2.0
# The classes of the jars as they lie in memory. Java takes it for the very class path alone that it was made for, so
# jars are named relative to the home and in one order; then of two jars with one class always the same counts, too.
_CLASS_ARCHIVE = "classes.jsa"
# prctl(2): by how many nanoseconds a thread that sleeps may be woken later. One of the coordinator looks for queries to
# start a thousand times a second, which no setting changes and which nobody misses at fifty.
_PR_SET_TIMERSLACK, _TIMER_SLACK_NS = 29, 20_000_000


def command(home: Path, etc: Path, environment: "dict[str, str]") -> "list[str]":
    """Return the command of the server, of jvm.config (an option a line) and node.properties (with ${VARIABLES})."""
    options = _lines((etc / "jvm.config").read_text())
    node = _lines(string.Template((etc / "node.properties").read_text()).substitute(environment))
    jars = ":".join(f"lib/{jar.name}" for jar in sorted((home / "lib").glob("*.jar")))
    files = [f"-Dconfig={etc}/config.properties", f"-Dlog.levels-file={etc}/log.properties"]
    options = ([f"-XX:SharedArchiveFile={_CLASS_ARCHIVE}"] if (home / _CLASS_ARCHIVE).is_file() else []) + options
    return [_java(home, environment), *options, *(f"-D{line}" for line in node), *files, "-cp", jars, _MAIN]


def _java(home: Path, environment: "dict[str, str]") -> str:
    """Return the Java that lies beside the server, else that of JAVA_HOME, else the one to be found on PATH."""
    own = home / "java/bin/java"
    if own.exists():
        return str(own)
    return f"{environment['JAVA_HOME']}/bin/java" if environment.get("JAVA_HOME") else "java"


def _lines(text: str) -> "list[str]":
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def is_ready(port: int) -> bool:
    """Return whether the server has started and is not about to leave; it answers 200 while it is starting, too."""
    info, state = _ask(port, "GET", "/v1/info"), _ask(port, "GET", "/v1/info/state")
    return isinstance(info, dict) and info.get("starting") is False and state == "ACTIVE"


def drain(port: int, within_s: float) -> bool:
    """Ask a worker to take nothing new, end what it has, and stop; return whether it has stopped in time."""
    deadline = time.monotonic() + within_s
    _ask(port, "PUT", "/v1/info/state", '"SHUTTING_DOWN"')
    while time.monotonic() < deadline:
        if _ask(port, "GET", "/v1/info/state") is None:
            return True
        time.sleep(0.5)
    return False


def _ask(port: int, method: str, path: str, body: "str | None" = None) -> Any:  # noqa: ANN401 - JSON is any
    """Return what the server answers, parsed; None where it does not answer, or not with JSON."""
    connection = http.client.HTTPConnection(_ADDRESS, port, timeout=_ASK_S)
    try:
        headers = {"Content-Type": "application/json", "X-Presto-User": "kubelet"}
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def main() -> int:
    """Do what the command line asks for and return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("act", choices=("start", "ready", "drain"))
    parser.add_argument("--home", type=Path, default=Path("/usr/lib/presto"))
    parser.add_argument("--etc", type=Path, default=Path("/etc/presto"))
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--within", type=float, default=15.0)
    arguments = parser.parse_args()
    if arguments.act == "start":
        server = command(arguments.home, arguments.etc, dict(os.environ))
        os.chdir(arguments.home)
        # what it becomes has it, too; a kernel that knows nothing of it leaves all as it is
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _TIMER_SLACK_NS, 0, 0, 0)
        os.execvp(server[0], server)  # noqa: S606 - it takes our place, so that signals reach it
    done = is_ready(arguments.port) if arguments.act == "ready" else drain(arguments.port, arguments.within)
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
