"""What the submission service does: it keeps nothing itself, so that any replica may answer for any job."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import Any

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from lakehouse.spark.bodies import Job
from lakehouse.spark.kubernetes import ConflictError, Kubernetes, KubernetesError
from lakehouse.spark.progress import Progress
from lakehouse.spark.settings import Settings
from lakehouse.spark.states import (
    SUBMITTED_AT_ONCE,
    WAITING,
    Driver,
    Record,
    driver_of,
    readiness_of_nodes,
    state_of,
)
from lakehouse.spark.store import ACCEPTED, JOB, REFUSED, Store
from lakehouse.spark.submission import RefusedError
from lakehouse.spark.templates import driver_name

_LOG = logging.getLogger(__name__)
# Of writing down how a submission ended, where the store does not answer at once
_RETRYING = Retrying(
    retry=retry_if_exception_type(OSError), stop=stop_after_attempt(5), wait=wait_fixed(2), reraise=True
)


class NameTakenError(Exception):
    """There is a job of that name."""


class UnknownJobError(Exception):
    """There is no job of that name."""


class NotRunningError(Exception):
    """The job has no driver yet that could be ended."""


class BusyError(Exception):
    """This replica has as many submissions before it as it can end in time."""


class Jobs:
    """All jobs. Everything here may block for some seconds; raises KubernetesError and OSError where these fail.

    `submit` hands a job to Spark, with the image for its pods.
    """

    def __init__(
        self, settings: Settings, kubernetes: Kubernetes, store: Store, submit: Callable[[Job, str], None]
    ) -> None:
        self._settings = settings
        self._kubernetes = kubernetes
        self._store = store
        self._submit = submit
        self._progress = Progress()
        self._threads = ThreadPoolExecutor(SUBMITTED_AT_ONCE, thread_name_prefix="submission")
        self._room = threading.BoundedSemaphore(SUBMITTED_AT_ONCE + WAITING)

    def close(self) -> None:
        """Wait for the submissions that this replica has taken."""
        self._threads.shutdown(wait=True)

    def take(self, job: Job) -> None:
        """Take a job: it is written down when this returns, and submitted afterwards.

        Raises NameTakenError, and BusyError before anything was done.
        """
        if not self._room.acquire(blocking=False):
            raise BusyError
        try:
            self._write_down(job)
            self._threads.submit(self._submit_in_turn, job)
        except BaseException:
            self._room.release()
            raise

    def _write_down(self, job: Job) -> None:
        # another cluster's jobs may lie in the store, and their names in no ConfigMap of this one
        if self._store.record(job.name):
            raise NameTakenError
        try:
            self._kubernetes.claim(job.name)
        except ConflictError as error:
            raise NameTakenError from error
        try:
            self._store.prepare()
            self._store.put(job.name, JOB, {**job.model_dump(mode="json"), "taken_by": self._settings.replica})
        except OSError:
            self._kubernetes.release(job.name)
            raise

    def _submit_in_turn(self, job: Job) -> None:
        try:
            file, content = self._submitted(job)
            _RETRYING(self._store.put, job.name, file, {**content, "replica": self._settings.replica})
        except Exception:  # noqa: BLE001 - nobody waits for this thread, so what is not logged is lost
            _LOG.exception("how the submission of %s ended is written down nowhere", job.name)
        finally:
            self._room.release()

    def _submitted(self, job: Job) -> tuple[str, dict[str, Any]]:
        """Submit a job and return the file that says how that ended, and its content."""
        began = time.monotonic()
        try:
            self._submit(job, self._own_image())
        except (RefusedError, KubernetesError) as error:
            # it may have failed after the pod was made: then there is a driver all the same
            if self._kubernetes.pod(driver_name(job.name)) is None:
                _LOG.error("Spark refused %s: %s", job.name, error)
                return REFUSED, {"reason": str(error)}
        return ACCEPTED, {"seconds": round(time.monotonic() - began, 1)}

    def _own_image(self) -> str:
        """Return the image of this very pod: it has all that drivers and executors need, and they run in the same."""
        pod = self._kubernetes.pod(self._settings.replica)
        if pod is None:
            raise KubernetesError(f"there is no pod {self._settings.replica}")
        return str(pod["spec"]["containers"][0]["image"])

    def status(self, name: str) -> dict[str, Any]:
        """Return all that is known of a job; raises UnknownJobError."""
        before = self._record(name)
        driver = self._driver(name)
        record = _completed(before, self._store.record(name))
        state, reason = state_of(record, driver, time.time())
        if state == "failed" and record.refused and driver is None:
            reason = (self._store.get(name, REFUSED) or {}).get("reason", reason)
        return {
            "id": name,
            "state": state,
            "reason": reason,
            "driver_pod": driver_name(name),
            "application_id": driver.application if driver else None,
            "progress": self._progress.of(driver) if driver and state == "running" else None,
            "result": self._store.result(name) if state == "succeeded" else None,
        }

    def listing(self) -> list[dict[str, str]]:
        """Return all jobs with their states, by name."""
        records = self._store.records()
        pods = self._kubernetes.drivers()
        nodes = readiness_of_nodes(self._kubernetes.nodes())
        drivers = {name: driver_of(pod, nodes) for name, pod in pods.items()}
        later, now = self._store.records(), time.time()
        states = {
            name: state_of(_completed(record, later.get(name)), drivers.get(name), now)[0]
            for name, record in records.items()
        }
        return [{"id": name, "state": states[name]} for name in sorted(states)]

    def end(self, name: str) -> None:
        """Delete a job's driver, and with it its executors; raises UnknownJobError, and NotRunningError before that."""
        record = self._record(name)
        if self._kubernetes.pod(driver_name(name)) is None and not (record.accepted or record.refused):
            raise NotRunningError
        self._kubernetes.delete_pod(driver_name(name))

    def _record(self, name: str) -> Record:
        if record := self._store.record(name):
            return record
        # its replica ended between the two steps of taking it
        if taken_at := self._kubernetes.claimed_at(name):
            return Record(datetime.fromisoformat(taken_at).timestamp())
        raise UnknownJobError

    def _driver(self, name: str) -> Driver | None:
        pod = self._kubernetes.pod(driver_name(name))
        return driver_of(pod, readiness_of_nodes(self._kubernetes.nodes())) if pod else None


def _completed(before: Record, after: Record | None) -> Record:
    """Return what was known of a job before its driver was looked for, and whether it has a result since."""
    return replace(before, complete=after.complete) if after else before
