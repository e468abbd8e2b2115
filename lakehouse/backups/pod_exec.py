"""Commands in a container of a pod, by the API server, as `kubectl exec` runs them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from kubernetes.client import ApiClient, CoreV1Api
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream
from urllib3.exceptions import HTTPError
from websocket import WebSocketException

from gameday.errors import HarnessError

_DEADLINE_S = 300
_FRAME_S = 5


@dataclass(frozen=True)
class PodContainer:
    """A container, by the names of its namespace, its pod and itself."""

    namespace: str
    pod: str
    name: str


def run_in_pod(api: ApiClient, where: PodContainer, command: Sequence[str]) -> str:
    """Run a command and return what it printed; raises HarnessError where it fails, cannot be run or does not end."""
    try:
        done = stream(
            CoreV1Api(api).connect_get_namespaced_pod_exec, where.pod, where.namespace, container=where.name,
            command=list(command), stdin=False, stdout=True, stderr=True, tty=False, _preload_content=False,
        )  # fmt: skip
        out, err = [], []
        try:
            until = time.monotonic() + _DEADLINE_S
            while done.is_open():
                if time.monotonic() > until:
                    raise HarnessError(f"`{command[0]}` in {where.pod} had not ended after {_DEADLINE_S} s")
                done.update(timeout=_FRAME_S)
                out.append(done.read_stdout(timeout=0) if done.peek_stdout() else "")
                err.append(done.read_stderr(timeout=0) if done.peek_stderr() else "")
            code = done.returncode
        finally:
            done.close()
    except (ApiException, HTTPError, OSError, ValueError, TypeError, WebSocketException) as error:
        raise HarnessError(f"`{command[0]}` cannot be run in {where.pod}: {error}") from error
    if code != 0:
        raise HarnessError(f"`{' '.join(command)[:80]}` in {where.pod} exited with {code}: {''.join(err).strip()}")
    return "".join(out)
