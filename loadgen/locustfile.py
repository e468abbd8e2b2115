"""The load as Locust runs it: `locust -f loadgen/locustfile.py --host http://ADDRESS:8181 MdsUser`.

One user class an engine (MdsUser, MilvusUser, PrestoUser, SparkUser), chosen by name or with `--class-picker` on
Locust's web page.
One user is a constant stream of arrivals, not a person who waits for answers: `--arrivals-per-s` for each user.
Locust's own web page, statistics and distributed mode work as ever. With `--run-folder` every request, write and
workload is written down for the judge.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import signal
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import gevent
from locust import User, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from gameday.errors import ChaosError, UsageError
from gameday.records import Recorder, Request
from loadgen.flights import Notebook
from loadgen.jobs import read_jobs
from loadgen.mds import MdsClients
from loadgen.presto import PrestoClients
from loadgen.schedule import ARRIVALS_PER_S, READY, pace
from loadgen.spark import SparkClients

logger = logging.getLogger(__name__)
_PARENT_LOOK_S = 0.5
_BEGIN_LOOK_S = 0.1
_FAILED = "load_failed"


@events.init_command_line_parser.add_listener
def _options(parser: ArgumentParser) -> None:
    names = {"mds": "MDS", "milvus": "Milvus", "presto": "Presto", "spark": "Spark's submission service"}
    for engine, name in names.items():
        parser.add_argument(f"--{engine}-url", type=str, default="", help=f"Address of {name} (that of --host).")
    parser.add_argument("--presto-user", type=str, default="load", help="Name to ask Presto as (load).")
    parser.add_argument(
        "--presto-password", type=str, default="", env_var="PRESTO_PASSWORD", is_secret=True, help="Password for it."
    )
    rates = ", ".join(f"{engine} {rate:g}" for engine, rate in ARRIVALS_PER_S.items())
    parser.add_argument("--arrivals-per-s", type=float, help=f"Arrivals a second of each user ({rates}).")
    parser.add_argument("--long-queries", type=int, default=1, help="Long queries that each PrestoUser keeps (1).")
    parser.add_argument("--long-searches", type=int, default=9, help="Long searches that each MilvusUser keeps (9).")
    parser.add_argument("--jobs", type=str, default="", help="Jobs of a SparkUser: a JSON list, or @FILE with one.")
    parser.add_argument("--ready-deadline-s", type=float, default=120.0, help="Time for an engine to work (120).")
    parser.add_argument("--run-folder", type=str, default="", help="Write requests, ledger, workloads to this folder.")
    parser.add_argument("--begin-file", type=str, default="", help="Let no arrival come before this file is there.")
    parser.add_argument("--parent", type=int, default=0, help="End when the process of this number has ended.")


@events.init.add_listener
def _watch_parent(environment: Environment, **_: object) -> None:
    # a dead parent that nobody buries stays in the list of processes, so its number alone says nothing; Locust's
    # workers are children of its own process, which is the one that the harness started
    parent = os.getppid()
    wanted = _options_of(environment).parent
    if not wanted:
        return

    def watch() -> None:
        while os.getppid() == parent and os.path.exists(f"/proc/{wanted}"):  # noqa: PTH110 - asked twice a second
            gevent.sleep(_PARENT_LOOK_S)
        logger.error("the process that started the load is gone")
        os.kill(os.getpid(), signal.SIGTERM)

    gevent.spawn(watch)


@events.init.add_listener
def _hear_workers(environment: Environment, **_: object) -> None:
    if isinstance(environment.runner, MasterRunner):
        environment.runner.register_message(
            _FAILED, lambda environment, msg, **_: _fail(environment, msg.data["reason"])
        )


@events.test_start.add_listener
def _begin(environment: Environment, **_: object) -> None:
    # Locust's web page starts and stops as often as one likes
    environment.load_stopping = False


@events.test_stopping.add_listener
def _stop_arrivals(environment: Environment, **_: object) -> None:
    environment.load_stopping = True


@events.quitting.add_listener
def _exit_code(environment: Environment, **_: object) -> None:
    # failed requests are what is looked for, and no failure of the load
    environment.process_exit_code = getattr(environment, "load_failed", 0)


def _options_of(environment: Environment) -> Namespace:
    if environment.parsed_options is None:
        raise UsageError("the load takes its settings from Locust's command line")
    options: Namespace = environment.parsed_options
    return options


class Clients(Protocol):
    """What a user drives: the clients of one engine."""

    def prepare(self) -> None:
        """Make what is needed, and return once arrivals may begin; raises ChaosError where that fails."""

    def arrive(self, number: int, due: float) -> None:
        """Carry out the operation of an arrival that was due at a moment (monotonic seconds)."""

    def finish(self) -> None:
        """End what is in flight, and write it down."""


class EngineUser(User):
    """A constant stream of arrivals of an engine's clients."""

    abstract = True
    engine: ClassVar[str]

    def make_clients(self, base_url: str, options: Namespace, notebook: Notebook) -> Clients:
        """Return the clients of this user."""
        raise NotImplementedError

    def on_start(self) -> None:
        """Make ready what the user needs; a load that cannot begin ends the process with 1."""
        options = _options_of(self.environment)
        index = getattr(self.environment.runner, "worker_index", 0)
        process = f"{os.getpid()}-{index}-{id(self) & 0xFFFF:x}"
        self._clients: Clients | None = None
        ready = False
        try:
            base_url = getattr(options, f"{self.engine}_url") or self.host
            if not base_url:
                raise UsageError(f"no address of {self.engine}: give --{self.engine}-url or --host")
            recorder = Recorder(Path(options.run_folder), process) if options.run_folder else None
            notebook = Notebook(self.engine, recorder, self._told, self._failed)
            self._clients = self.make_clients(base_url, options, notebook)
            self._clients.prepare()
            ready = True
        except (ChaosError, OSError) as error:
            _fail(self.environment, f"the load cannot begin: {error}")
            raise StopUser from error
        finally:
            # jobs and long queries that have begun shall not go on, also where Locust has no patience left
            if self._clients and not ready:
                self._clients.finish()
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()

    @task
    def arrivals(self) -> None:
        """Let arrivals come until the user is stopped."""
        phase = random.random()  # noqa: S311 - several users shall not all arrive at the same moment
        # what is left empty on Locust's web page is an empty text
        rate = float(_options_of(self.environment).arrivals_per_s or ARRIVALS_PER_S[self.engine])
        try:
            self._await_begin()
            pace(rate, self._arrive, self._stopping, phase=phase)
        finally:
            if self._clients:
                self._clients.finish()
        raise StopUser

    def _await_begin(self) -> None:
        begin = str(_options_of(self.environment).begin_file or "")
        while begin and not os.path.exists(begin) and not self._stopping():  # noqa: PTH110 - asked ten times a second
            gevent.sleep(_BEGIN_LOOK_S)

    def _stopping(self) -> bool:
        return bool(getattr(self.environment, "load_stopping", False))

    def _arrive(self, number: int, due: float) -> None:
        if self._stopping() or not self._clients:
            return
        try:
            self._clients.arrive(number, due)
        except Exception as error:  # noqa: BLE001 - gevent would print it and go on with holes in the evidence
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        _fail(self.environment, f"the load failed at an arrival: {error!r}")

    def _told(self, request: Request) -> None:
        self.environment.events.request.fire(
            request_type=self.engine,
            name=request.operation,
            response_time=request.latency_s * 1000,
            response_length=0,
            exception=None if request.outcome == "ok" else RuntimeError(request.error or request.outcome),
            context={},
        )


class MdsUser(EngineUser):
    """Clients of the metadata service."""

    engine = "mds"

    def make_clients(self, base_url: str, _options: Namespace, notebook: Notebook) -> Clients:
        """Return clients with tables in a namespace of their own."""
        return MdsClients(base_url, f"load_{secrets.token_hex(4)}", notebook)


class MilvusUser(EngineUser):
    """Clients of Milvus."""

    engine = "milvus"

    def make_clients(self, base_url: str, options: Namespace, notebook: Notebook) -> Clients:
        """Return clients with collections of their own, that keep long searches in flight."""
        # a second of work, which the loads of other engines need not do
        from loadgen.milvus import MilvusClients  # noqa: PLC0415

        return MilvusClients(
            base_url, notebook, long_searches=options.long_searches, ready_deadline_s=options.ready_deadline_s
        )


class PrestoUser(EngineUser):
    """Clients of Presto."""

    engine = "presto"

    def make_clients(self, base_url: str, options: Namespace, notebook: Notebook) -> Clients:
        """Return clients that keep long queries in flight."""
        return PrestoClients(
            base_url,
            notebook,
            user=options.presto_user,
            password=options.presto_password or None,
            long_queries=options.long_queries,
            ready_deadline_s=options.ready_deadline_s,
        )


class SparkUser(EngineUser):
    """Clients of Spark's submission service."""

    engine = "spark"

    def make_clients(self, base_url: str, options: Namespace, notebook: Notebook) -> Clients:
        """Return clients with the jobs that were asked for."""
        jobs = read_jobs(options.jobs) if options.jobs else None
        return SparkClients(base_url, notebook, jobs, ready_deadline_s=options.ready_deadline_s)


def _fail(environment: Environment, reason: str) -> None:
    """End the whole load with 1, for a reason that is no failure of the server."""
    if getattr(environment, "load_failed", 0):
        return
    logger.error(reason)
    environment.load_failed = 1
    environment.load_stopping = True
    runner: Any = environment.runner
    if isinstance(runner, WorkerRunner):
        # the worker's own exit code is lost in Locust's
        runner.send_message(_FAILED, {"reason": reason})
    gevent.spawn(runner.quit)
