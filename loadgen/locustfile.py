"""The load as Locust runs it: `locust -f loadgen/locustfile.py --host http://ADDRESS:8181`.

One user is a constant stream of arrivals, not a person who waits for answers: `--arrivals-per-s` for each user.
Locust's own web page, statistics and distributed mode work as ever. With `--run-folder` every request and every write
is written down for the judge.
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
from typing import Any

import gevent
from locust import User, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from gameday.errors import ChaosError, UsageError
from gameday.records import Recorder, Request
from loadgen.mds import MdsClients
from loadgen.schedule import pace

logger = logging.getLogger(__name__)
READY = "LOAD READY"
_PARENT_LOOK_S = 0.5
_FAILED = "load_failed"


@events.init_command_line_parser.add_listener
def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--arrivals-per-s", type=float, default=5.0, help="Arrivals a second of each user (5).")
    parser.add_argument("--run-folder", type=str, default="", help="Write requests and ledger into this folder.")
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


class MdsUser(User):
    """A constant stream of arrivals of MDS's clients."""

    def on_start(self) -> None:
        """Create the user's tables; a load that cannot begin ends the process with 1."""
        options = _options_of(self.environment)
        index = getattr(self.environment.runner, "worker_index", 0)
        process = f"{os.getpid()}-{index}-{id(self) & 0xFFFF:x}"
        try:
            recorder = Recorder(Path(options.run_folder), process) if options.run_folder else None
            namespace = f"load_{secrets.token_hex(4)}"
            self._clients = MdsClients(self.host or "", namespace, recorder, self._told, self._failed)
            self._clients.prepare()
        except (ChaosError, OSError) as error:
            _fail(self.environment, f"the load cannot begin: {error}")
            raise StopUser from error
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()

    @task
    def arrivals(self) -> None:
        """Let arrivals come until the user is stopped."""
        phase = random.random()  # noqa: S311 - several users shall not all arrive at the same moment
        try:
            pace(_options_of(self.environment).arrivals_per_s, self._arrive, self._stopping, phase=phase)
        finally:
            self._clients.finish()
        raise StopUser

    def _stopping(self) -> bool:
        return bool(getattr(self.environment, "load_stopping", False))

    def _arrive(self, number: int, due: float) -> None:
        if self._stopping():
            return
        try:
            self._clients.arrive(number, due)
        except Exception as error:  # noqa: BLE001 - gevent would print it and go on with holes in the evidence
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        _fail(self.environment, f"the load failed at an arrival: {error!r}")

    def _told(self, request: Request) -> None:
        self.environment.events.request.fire(
            request_type="mds",
            name=request.operation,
            response_time=request.latency_s * 1000,
            response_length=0,
            exception=None if request.outcome == "ok" else RuntimeError(request.error or request.outcome),
            context={},
        )


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
