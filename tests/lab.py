"""What tests of the shared cluster have in common: its lakehouse, commands as users run them, and runs under way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes.client import CoreV1Api
from kubernetes.stream import stream
from pyarrow.fs import S3FileSystem
from pyiceberg.catalog.rest import RestCatalog

from gameday.engine import Engine, find_engine
from gameday.paths import PROJECT
from gameday.regions import Region
from gameday.timeline import read_json_lines
from gameday.waiting import wait_until
from lakehouse.deploy import endpoints
from lakehouse.deploy import up as deploy_up
from lakehouse.formation import Formation
from lakehouse.provider import OBJECT_STORE_PORT
from probes.cluster import NAMESPACE

CHAOS = str(Path(sys.executable).with_name("chaos"))
EXPERIMENTS = {path.stem: path for path in (PROJECT / "experiments").rglob("*.yaml")}

# More than this is a machine on which the tests say nothing.
RUNS_UNTIL_SAID = 3

type Shortened = Callable[..., Path]
type Begin = Callable[..., Running]


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """All it printed."""
        return self.stdout + self.stderr


def command(*arguments: str, timeout: float = 600) -> Ran:
    """Run a program in the checkout to its end, as a user does."""
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout, check=False, cwd=PROJECT)
    return Ran(done.returncode, done.stdout, done.stderr)


def chaos(*arguments: str, timeout: float = 600) -> Ran:
    """Run a command of `chaos`."""
    return command(CHAOS, *arguments, timeout=timeout)


# The region of the shared cluster, and whether it was made for the tests.
type Shared = tuple[Region, bool]


@dataclass(frozen=True)
class Lakehouse:
    """The shared region with some formations up; it goes with the tests where it was `made` for them."""

    region: Region
    engine: Engine
    made: bool
    formations: tuple[Formation, ...]

    @classmethod
    def deployed(cls, region: Region, made: bool, formations: tuple[Formation, ...]) -> Lakehouse:  # noqa: FBT001 - as `shared` has it
        """Deploy these formations, and no others."""
        lakehouse = cls(region, find_engine(), made, formations)
        lakehouse.deploy()
        return lakehouse

    def deploy(self, **options: Any) -> None:  # noqa: ANN401 - the options of `lakehouse.deploy.up`
        """Deploy as declared, but for these options."""
        deploy_up(self.region, self.engine, formations=self.formations, **options)

    def run(self, experiment: Path, runs: Path, *options: str) -> tuple[Ran, dict[str, dict[str, Any]]]:
        """Run an experiment by hand and return how it ended, with its verdicts by promise.

        Run again where a promise was left open, as who is told so does: a machine that was full for a minute says
        nothing of whether the judge tells a broken promise from a kept one. What no run says stays open.
        """
        for _ in range(RUNS_UNTIL_SAID):
            ran = chaos("run", "--region", self.region.name, "--runs", str(runs), *options, str(experiment))
            found = sorted(runs.glob("*/verdicts.json"))
            verdicts = json.loads(found[-1].read_text()) if found else []
            if not any(item["verdict"] == "inconclusive" for item in verdicts):
                break
        return ran, {item["promise"]: item for item in verdicts}


def catalogue_of(lakehouse: Lakehouse) -> RestCatalog:
    """Return pyiceberg's own REST catalogue, which reaches MDS and the object store as any client does."""
    keys = lakehouse.region.credentials()
    return RestCatalog(
        "mds",
        uri=endpoints(lakehouse.region, lakehouse.engine)["mds"],
        **{
            "s3.endpoint": _store_of(lakehouse),
            "s3.access-key-id": keys["object_store_key"],
            "s3.secret-access-key": keys["object_store_secret"],
            "s3.region": "us-east-1",
        },
    )


def bucket_of(lakehouse: Lakehouse) -> S3FileSystem:
    """Return the object store as a file system."""
    keys = lakehouse.region.credentials()
    return S3FileSystem(
        access_key=keys["object_store_key"],
        secret_key=keys["object_store_secret"],
        endpoint_override=_store_of(lakehouse),
        region="us-east-1",
    )


def _store_of(lakehouse: Lakehouse) -> str:
    (store,) = [item for item in lakehouse.region.services(lakehouse.engine) if item.name.endswith("object-store")]
    return f"http://{store.address}:{OBJECT_STORE_PORT}"


def run_in_pod(api: CoreV1Api, app: str, *command: str) -> str:
    """Run a program in a pod of this label `app.kubernetes.io/name`, and return what it printed."""
    return next(run_in_pods(api, app, *command))


def run_in_pods(api: CoreV1Api, app: str, *command: str) -> Iterator[str]:
    """Run a program in one pod of this label after the other, and yield what each printed."""
    for pod in api.list_namespaced_pod(NAMESPACE, label_selector=f"app.kubernetes.io/name={app}").items:
        said: str = stream(
            api.connect_get_namespaced_pod_exec, pod.metadata.name, NAMESPACE,
            command=list(command), stdin=False, stdout=True, stderr=True, tty=False,
        )  # fmt: skip
        yield said


@dataclass
class Running:
    """A `chaos run` under way."""

    process: subprocess.Popen[bytes]
    runs: Path

    def await_event(self, kind: str, deadline_s: float = 150.0, **fields: object) -> None:
        """Wait until the run has written an event of a kind with these fields."""

        def look() -> str | None:
            events = [event for path in self.runs.glob("*/timeline.jsonl") for event in read_json_lines(path)]
            found = [event for event in events if event["kind"] == kind]
            if any(all(event.get(name) == value for name, value in fields.items()) for event in found):
                return None
            if self.process.poll() is not None:
                raise AssertionError(f"the run ended with {self.process.returncode} before {kind}")
            return f"{len(events)} other events"

        wait_until(f"the event {kind}", look, deadline_s=deadline_s, every_s=0.01)

    def end(self, number: signal.Signals, deadline_s: float = 200.0) -> int:
        """Send a signal and return the exit code."""
        os.kill(self.process.pid, number)
        return self.process.wait(timeout=deadline_s)

    def loads(self) -> list[str]:
        """Return the command lines of load processes of this run that are alive."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                # it ended while we looked
                continue
            if "locust" in line and str(self.runs) in line:
                found.append(line)
        return found


def verdicts_in(runs: Path) -> dict[str, str]:
    """Return the verdict of each promise of the one run in a folder."""
    (path,) = runs.glob("*/verdicts.json")
    return {item["promise"]: item["verdict"] for item in json.loads(path.read_text())}
