# ruff: noqa: INP001 - a program of the image, no module of the harness
"""What Presto's image runs: the server itself, word that it is ready, and its leaving without losing what it works on.

server.py start [--home FOLDER] [--etc FOLDER] [--mark FILE]   becomes the server, and makes the file once it is ready
server.py drain [--port PORT] [--within SECONDS]               asks a worker to finish what it has and waits for its end

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
import urllib.parse
from pathlib import Path
from typing import Any

_MAIN = "com.facebook.presto.server.PrestoServer"
_ADDRESS = "127.0.0.1"
_ASK_S = 2.0
_LOOK_S = 0.5
# Warm by then or not, it is ready: where no worker is there no query is answered, and its clients are to be told so.
_WARM_UP_S = 40.0
# A query that waits for its worker, or for a core, is answered late; its client is asked to call again each second.
_ANSWER_S = 10.0
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


def announce(server: int, port: int, statements: "list[str]", mark: Path) -> None:
    """Make a file once the server has started and has answered each statement; give up when it is the parent no more.

    A probe that looks for a file is cheap, and a server that starts has no core to spare. The first queries cost many
    times what later ones do. All that came meanwhile begin at once, and on few cores none of them ends before its
    client gives up; one after the other they take seconds. A server that is not warm in time is ready all the same.
    """
    while not is_ready(port):
        if os.getppid() != server:
            return
        time.sleep(_LOOK_S)
    deadline = time.monotonic() + _WARM_UP_S
    for statement in statements:
        while not _answers(port, statement, deadline) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
    mark.touch()


def _answers(port: int, statement: str, deadline: float) -> bool:
    """Return whether a statement is answered before a moment."""
    answer = _ask(port, "POST", "/v1/statement", statement, _ANSWER_S)
    while isinstance(answer, dict) and "nextUri" in answer and time.monotonic() < deadline:
        following = urllib.parse.urlsplit(answer["nextUri"])
        answer = _ask(port, "GET", f"{following.path}?{following.query}", None, _ANSWER_S)
    return isinstance(answer, dict) and "nextUri" not in answer and "error" not in answer


def drain(port: int, within_s: float) -> bool:
    """Ask a worker to take nothing new, end what it has, and stop; return whether it has stopped in time."""
    deadline = time.monotonic() + within_s
    _ask(port, "PUT", "/v1/info/state", '"SHUTTING_DOWN"')
    while time.monotonic() < deadline:
        if _ask(port, "GET", "/v1/info/state") is None:
            return True
        time.sleep(0.5)
    return False


def _ask(port: int, method: str, path: str, body: "str | None" = None, within_s: float = _ASK_S) -> Any:  # noqa: ANN401 - JSON is any
    """Return what the server answers, parsed; None where it does not answer, or not with JSON."""
    connection = http.client.HTTPConnection(_ADDRESS, port, timeout=within_s)
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
    parser.add_argument("act", choices=("start", "drain"))
    parser.add_argument("--home", type=Path, default=Path("/usr/lib/presto"))
    parser.add_argument("--etc", type=Path, default=Path("/etc/presto"))
    parser.add_argument("--mark", type=Path, default=Path("/tmp/ready"))  # noqa: S108 - a folder of the pod's own
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--within", type=float, default=15.0)
    arguments = parser.parse_args()
    if arguments.act == "drain":
        return 0 if drain(arguments.port, arguments.within) else 1
    _start(arguments)
    return 0


def _start(arguments: "argparse.Namespace") -> None:
    """Become the server, and leave behind who tells that it is ready."""
    server = command(arguments.home, arguments.etc, dict(os.environ))
    warm_up = arguments.etc / "warm-up.sql"
    statements = _lines(warm_up.read_text()) if warm_up.is_file() else []
    if arguments.mark.exists():
        # of the server that was there before this one, in the same pod
        arguments.mark.unlink()
    own = os.getpid()
    if os.fork() == 0:
        announce(own, arguments.port, statements, arguments.mark)
        os._exit(0)
    os.chdir(arguments.home)
    # what it becomes has it, too; a kernel that knows nothing of it leaves all as it is
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _TIMER_SLACK_NS, 0, 0, 0)
    os.execvp(server[0], server)  # noqa: S606 - it takes our place, so that signals reach it


if __name__ == "__main__":
    sys.exit(main())
