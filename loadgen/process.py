"""The load as a process of its own: Locust replaces threads and sockets by its own, which the harness must not have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gameday.errors import HarnessError
from gameday.shell import free_port
from gameday.waiting import wait_until
from loadgen.schedule import READY

LOCUSTFILE = Path(__file__).with_name("locustfile.py")


class Load:
    """One Locust process, or one with workers, that puts one engine under load and writes into a run folder."""

    def __init__(
        self,
        engine: str,
        base_url: str,
        folder: Path,
        *,
        arrivals_per_s: float,
        users: int = 1,
        workers: int = 0,
        options: Sequence[str] = (),
    ) -> None:
        """`arrivals_per_s` is the rate of all users together; with `workers` Locust starts as many processes.

        `options` are further ones of the locustfile, such as `--jobs`. Loads of several engines run side by side.
        """
        self._command = [
            sys.executable,
            "-m",
            "locust",
            "--locustfile",
            str(LOCUSTFILE),
            "--headless",
            "--only-summary",
        ]
        self._command += [f"--{engine}-url", base_url, "--users", str(users), "--spawn-rate", str(users)]
        # a user needs 5 s for what is in flight, 3 s to take its leave, and a moment to hear of the end
        self._command += ["--stop-timeout", "11"]
        self._command += ["--arrivals-per-s", str(arrivals_per_s / users), "--run-folder", str(folder)]
        self._command += ["--parent", str(os.getpid()), *options]
        if workers:
            # Locust's own port is fixed and open to all: two loads at once would take each other's workers
            port = str(free_port())
            self._command += ["--processes", str(workers), "--master-bind-host", "127.0.0.1"]
            self._command += ["--master-bind-port", port, "--master-port", port]
        self._command.append(user_class(engine))
        self._users = users
        self._log = folder / f"load-{engine}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = False

    def start(self) -> None:
        """Start the process."""
        self._ending = False
        with self._log.open("wb") as log:
            # a group of its own: Ctrl-C is for the harness, which ends the load when it is done with it
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait_ready(self, deadline_s: float) -> None:
        """Wait until the arrivals of all users have begun; raises HarnessError where the load ended instead."""

        def look() -> str | None:
            if not self.alive():
                raise HarnessError(f"the load ended before it began: {self._end_of_log()}")
            begun = self._log.read_text(errors="replace").count(READY)
            return None if begun >= self._users else f"{begun} of {self._users} users ready"

        wait_until("the load to begin", look, deadline_s=deadline_s, every_s=0.2)

    def alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def end(self) -> None:
        """Ask the load to finish what is in flight and to end, without a wait for it; asked again, it hears nothing."""
        if self._process is not None and self.alive() and not self._ending:
            self._process.send_signal(signal.SIGTERM)
            self._ending = True

    def stop(self, deadline_s: float) -> None:
        """Let the load finish what is in flight and end; raises HarnessError where it failed or had to be killed."""
        process = self._process
        if process is None:
            return
        self.end()
        try:
            code = process.wait(timeout=deadline_s)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise HarnessError(f"the load did not end within {deadline_s:g} s and was killed") from error
        finally:
            self._process = None
        if code != 0:
            raise HarnessError(f"the load failed with exit code {code}: {self._end_of_log()}")

    def _end_of_log(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        # Locust ends with tables of its statistics; what it logged as an error says more
        errors = [line for line in lines if "/ERROR/" in line]
        return " | ".join((errors or lines)[-3:]) or "it said nothing"


def user_class(engine: str) -> str:
    """Return the name of an engine's user class in the locustfile."""
    return f"{engine.capitalize()}User"
