"""How exactly an outage of known length is measured: `python -m loadgen.bench`.

An HTTP server, a process of its own on loopback, is frozen with SIGSTOP for 2, 5 and 12 s, ten times each, under the
load's own arrivals, client and recorder. What `gameday.measure.outages` makes of the recorded requests is compared with
the time between the two signals. It must differ by two arrival intervals at most.

Why that can be: an operation counts as failed when it is late, not only when it is given up, so that the first failed
one is due at most one interval after the freeze; and those that were due in the last second of a freeze are answered at
the thaw, so that the end waits neither for a client's time-out (10 s) nor for the next arrival. What remains is up to
one interval at the start, and at the thaw the time that the server takes to work off what has piled up; so the server
here is as small as one can be.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import click
import gevent
import gevent.event
from gevent.server import StreamServer

from gameday.errors import HarnessError
from gameday.measure import due_within, outages
from gameday.records import Recorder, Request, read_requests
from gameday.timeline import now
from loadgen.flights import Notebook
from loadgen.mds import ENGINE, MdsClients
from loadgen.schedule import ARRIVALS_PER_S as DECLARED
from loadgen.schedule import CYCLES, declared_rates, pace

ARRIVALS_PER_S = 20.0
INTERVAL_S = 1 / ARRIVALS_PER_S
ERROR_MAX_INTERVALS = 2
# Success must last that long to end an outage; nothing else goes wrong here.
_SUSTAINED_S = 1.0
# What is not longer is no outage: `outages` calls late what took more than a second.
_SECONDS_MIN = 1.5
# Undisturbed arrivals before each freeze; and after it, until success has lasted and what was late is recorded.
_BEFORE_S, _AFTER_S = 0.7, 1.5
_SERVER_DEADLINE_S = 20.0
_BODY = b'{"namespaces": [["load"]]}'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
_RECORDED = 10_000
# from linux/prctl.h
_PR_SET_PDEATHSIG = 1
_LIST_NAMESPACES = CYCLES[ENGINE].index("list_namespaces")


@dataclass(frozen=True)
class Freeze:
    """One outage of known length: how long it was, and how long it was measured to be, in seconds."""

    exact_s: float
    measured_s: float

    @property
    def error_s(self) -> float:
        """By how much it was measured too long (too short, where negative), in seconds."""
        return self.measured_s - self.exact_s


def serve(ready: Connection) -> None:
    """Answer every request as MDS lists namespaces, on a free port of loopback that is sent to `ready`."""
    # a bench that is killed leaves no server behind, not even a frozen one
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def answer(connection: socket.socket, _address: object) -> None:
        # clients that gave up meanwhile have closed their end
        with suppress(OSError):
            while connection.recv(65536):
                connection.sendall(_ANSWER)

    server = StreamServer(("127.0.0.1", 0), answer, backlog=1024)
    server.start()
    ready.send(server.server_port)
    server.serve_forever()


@contextmanager
def served() -> Iterator[tuple[int, str]]:
    """Run the server; yields the number of its process and its URL, and ends it."""
    processes = multiprocessing.get_context("spawn")
    here, there = processes.Pipe()
    server = processes.Process(target=serve, args=(there,), daemon=True)
    server.start()
    try:
        if server.pid is None or not here.poll(_SERVER_DEADLINE_S):
            raise HarnessError(f"the server of the benchmark did not start within {_SERVER_DEADLINE_S:g} s")
        yield server.pid, f"http://127.0.0.1:{here.recv()}"
    finally:
        server.kill()
        server.join()


@contextmanager
def arrivals(url: str, folder: Path) -> Iterator[None]:
    """Let arrivals come, and be recorded in `folder`, as those of the load."""
    recorder, failures = Recorder(folder, "bench"), list[BaseException]()
    clients = MdsClients(url, "load_bench", Notebook(ENGINE, recorder, lambda _: None, failures.append))
    stopped = gevent.event.Event()
    pacer = gevent.spawn(pace, ARRIVALS_PER_S, lambda _, due: clients.arrive(_LIST_NAMESPACES, due), stopped.is_set)
    try:
        yield
    finally:
        stopped.set()
        pacer.join()
        clients.finish()
        recorder.close()
    if failures:
        raise HarnessError(f"the requests of the benchmark were not all recorded: {failures[0]!r}")


def freeze(pid: int, seconds: float) -> tuple[float, float]:
    """Stop a process for so many seconds; return when it was stopped and when it went on (monotonic seconds)."""
    os.kill(pid, signal.SIGSTOP)
    _, begin = now()
    gevent.sleep(seconds)
    _, end = now()
    os.kill(pid, signal.SIGCONT)
    return begin, end


def measured(requests: list[Request], begin: float, end: float) -> Freeze:
    """Return what the requests show of a freeze from `begin` to `end`; raises HarnessError if not one outage."""
    found = outages(due_within(requests, begin - _BEFORE_S, end + _AFTER_S), sustained_s=_SUSTAINED_S)
    if len(found) != 1 or found[0].length_s is None:
        raise HarnessError(f"a freeze of {end - begin:.1f} s was not seen as one outage that ended, but as {found}")
    return Freeze(end - begin, found[0].length_s)


def bench(seconds: float, times: int) -> list[Freeze]:
    """Freeze a server so many times for so many seconds, and return how each freeze was measured."""
    with tempfile.TemporaryDirectory() as name:
        folder, windows = Path(name), list[tuple[float, float]]()
        with served() as (pid, url), arrivals(url, folder):
            for number in range(times):
                # a freeze may begin at any moment between two arrivals
                gevent.sleep(_BEFORE_S + INTERVAL_S * number / times)
                windows.append(freeze(pid, seconds))
                gevent.sleep(_AFTER_S)
        requests = read_requests(folder)
    return [measured(requests, begin, end) for begin, end in windows]


def recorder_cost_s() -> float:
    """Return the CPU seconds that it takes to record a thousand requests."""
    wall, mono = now()
    request = Request("mds", "list_namespaces", mono, mono, mono, wall, "ok", 1, 200, None, "mds-6f7c9d5b8-x2x7q")
    with tempfile.TemporaryDirectory() as name:
        recorder = Recorder(Path(name), "bench")
        begin = time.process_time()
        for _ in range(_RECORDED):
            recorder.request(request)
        spent = time.process_time() - begin
        recorder.close()
    return spent / _RECORDED * 1000


def _lengths(_context: click.Context, _parameter: click.Parameter, value: str) -> list[float]:
    try:
        lengths = [float(one) for one in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no list of seconds such as 2,5,12") from error
    if min(lengths) < _SECONDS_MIN:
        raise click.BadParameter(f"a freeze of less than {_SECONDS_MIN:g} s is no outage")
    return lengths


@click.command()
@click.option("--times", default=10, show_default=True, type=click.IntRange(1, 100), help="Freezes of each length.")
@click.option("--seconds", default="2,5,12", show_default=True, callback=_lengths, help="Lengths of the freezes.")
@click.pass_context
def main(context: click.Context, times: int, seconds: list[float]) -> None:
    """Measure outages of known length; ends with 1 if one is off by more than two arrival intervals."""
    click.echo(f"{ARRIVALS_PER_S:g} arrivals a second: an interval is {INTERVAL_S * 1000:g} ms")
    worst = 0.0
    for length in seconds:
        freezes = bench(length, times)
        errors = [abs(one.error_s) for one in freezes]
        signed = sorted(one.error_s for one in freezes)
        worst = max(worst, *errors)
        click.echo(
            f"frozen {length:4.1f} s, {times} times: error median {_shown(median(errors))}, maximum"
            f" {_shown(max(errors))}; from {signed[0] * 1000:+.1f} to {signed[-1] * 1000:+.1f} ms"
        )
    cost_s, requests_per_s = recorder_cost_s(), sum(declared_rates(ENGINE, DECLARED[ENGINE]).values())
    click.echo(
        f"recorder: {cost_s:.3f} CPU seconds for 1000 requests, {cost_s * requests_per_s / 10:.3f} % of a core at the"
        f" declared {requests_per_s:g} requests a second"
    )
    if worst > ERROR_MAX_INTERVALS * INTERVAL_S:
        click.echo(f"an error exceeds {ERROR_MAX_INTERVALS} intervals", err=True)
        context.exit(1)


def _shown(error_s: float) -> str:
    return f"{error_s * 1000:.1f} ms ({error_s / INTERVAL_S:.2f} intervals)"


if __name__ == "__main__":
    main()
