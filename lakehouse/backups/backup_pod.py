"""Commands in the pod that takes snapshots, which reaches what is in the cluster and has the tools for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from gameday.errors import HarnessError, UsageError
from gameday.regions import Region, api_client
from lakehouse.backup_settings import SNAPSHOTS
from lakehouse.backups.pod_exec import PodContainer, run_in_pod
from lakehouse.formation import NAMESPACE

_CONTAINER = "snapshots"
_LIST_TIMEOUT_S = 10


@dataclass(frozen=True)
class BackupPod:
    """The pod of a region."""

    region: Region

    def run(self, command: Sequence[str]) -> str:
        """Run a command and return what it printed; raises HarnessError where it fails, or no such pod runs."""
        try:
            api = api_client(self.region.kubeconfig)
            return run_in_pod(api, PodContainer(NAMESPACE, self._name(CoreV1Api(api)), _CONTAINER), command)
        except (ApiException, HTTPError, UsageError) as error:
            raise HarnessError(f"`{command[0]}` cannot be run in {SNAPSHOTS}: {error}") from error

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
