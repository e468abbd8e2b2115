"""Commands in the pod that takes snapshots, which reaches what is in the cluster and has the tools for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream
from urllib3.exceptions import HTTPError
from websocket import WebSocketException

from gameday.errors import HarnessError, UsageError
from gameday.regions import Region, api_client
from lakehouse.backup_settings import SNAPSHOTS
from lakehouse.formation import NAMESPACE

_CONTAINER = "snapshots"
_DEADLINE_S = 300
_FRAME_S = 5
_LIST_TIMEOUT_S = 10


@dataclass(frozen=True)
class BackupPod:
    """The pod of a region."""

    region: Region

    def run(self, command: Sequence[str]) -> str:
        """Run a command and return what it printed; raises HarnessError where it fails, or no such pod runs."""
        try:
            api = CoreV1Api(api_client(self.region.kubeconfig))
            done = stream(
                api.connect_get_namespaced_pod_exec, self._name(api), NAMESPACE, container=_CONTAINER,
                command=list(command), stdin=False, stdout=True, stderr=True, tty=False, _preload_content=False,
            )  # fmt: skip
            out, err = [], []
            try:
                until = time.monotonic() + _DEADLINE_S
                while done.is_open():
                    if time.monotonic() > until:
                        raise HarnessError(f"`{command[0]}` in {SNAPSHOTS} had not ended after {_DEADLINE_S} s")
                    done.update(timeout=_FRAME_S)
                    out.append(done.read_stdout(timeout=0) if done.peek_stdout() else "")
                    err.append(done.read_stderr(timeout=0) if done.peek_stderr() else "")
                code = done.returncode
            finally:
                done.close()
        except (ApiException, HTTPError, OSError, ValueError, TypeError, WebSocketException, UsageError) as error:
            raise HarnessError(f"`{command[0]}` cannot be run in {SNAPSHOTS}: {error}") from error
        if code != 0:
            raise HarnessError(f"`{' '.join(command)[:80]}` in {SNAPSHOTS} exited with {code}: {''.join(err).strip()}")
        return "".join(out)

    def _name(self, api: CoreV1Api) -> str:
        selector = f"app.kubernetes.io/name={SNAPSHOTS}"
        found = api.list_namespaced_pod(NAMESPACE, label_selector=selector, _request_timeout=_LIST_TIMEOUT_S).items
        for pod in found:
            statuses = pod.status.container_statuses or []
            if pod.metadata.deletion_timestamp is None and any(
                one.name == _CONTAINER and one.state.running for one in statuses
            ):
                return str(pod.metadata.name)
        raise HarnessError(f"no pod of {SNAPSHOTS} runs in the namespace {NAMESPACE}")
