"""The few calls of Kubernetes' API that the service makes, with the account of its pod."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlencode

import urllib3

from lakehouse.spark.templates import FORMATION, FORMATION_LABEL, WORKLOAD_LABEL

MASTER = "https://kubernetes.default.svc"
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_OK, _ERROR, _NOT_FOUND, _CONFLICT = 200, 400, 404, 409
# One that is slower is given up: a request of a client waits for it.
_TIMEOUT = urllib3.Timeout(connect=2.0, read=4.0)


class KubernetesError(Exception):
    """Kubernetes did not answer, or refused; the message is one sentence."""


class ConflictError(KubernetesError):
    """An object of that name is there already."""


class Kubernetes:
    """Objects of one namespace; every call may block for some seconds, and raises KubernetesError."""

    def __init__(self, namespace: str, address: str = MASTER, account: Path = _ACCOUNT) -> None:
        self._address = address
        self._account = account
        self._namespace = f"/api/v1/namespaces/{namespace}"
        authority = account / "ca.crt"
        self._pool = urllib3.PoolManager(
            maxsize=8, retries=False, timeout=_TIMEOUT, ca_certs=str(authority) if authority.exists() else None
        )

    def check(self) -> None:
        """Raise KubernetesError where drivers could not be listed."""
        self._call("GET", f"{self._namespace}/pods?{urlencode({**self._of_drivers(), 'limit': 1})}")

    def pod(self, name: str) -> dict[str, Any] | None:
        """Return a pod, None where there is none."""
        return self._call("GET", f"{self._namespace}/pods/{quote(name)}")

    def drivers(self) -> dict[str, dict[str, Any]]:
        """Return the pods of all drivers by the name of their job."""
        found = self._call("GET", f"{self._namespace}/pods?{urlencode(self._of_drivers())}") or {}
        return {pod["metadata"]["labels"][WORKLOAD_LABEL]: pod for pod in found.get("items", [])}

    def nodes(self) -> list[dict[str, Any]]:
        """Return all Node objects."""
        return list((self._call("GET", "/api/v1/nodes") or {}).get("items", []))

    def delete_pod(self, name: str) -> None:
        """Ask for a pod's end, also where it is gone already."""
        self._call("DELETE", f"{self._namespace}/pods/{quote(name)}")

    def claim(self, job: str) -> Mapping[str, Any]:
        """Take a job's name for good and return the object that says so; raises ConflictError where it is taken.

        The object store has no such thing: of two replicas, both could find that a name is free.
        """
        labels = {FORMATION_LABEL: FORMATION, WORKLOAD_LABEL: job}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": _claim_of(job), "labels": labels}}
        return self._call("POST", f"{self._namespace}/configmaps", body) or {}

    def claimed_at(self, job: str) -> str | None:
        """Return the time at which a job's name was taken, as Kubernetes writes it; None where it is free."""
        found = self._call("GET", f"{self._namespace}/configmaps/{quote(_claim_of(job))}")
        return found["metadata"]["creationTimestamp"] if found else None

    def release(self, job: str) -> None:
        """Give up a job's name."""
        self._call("DELETE", f"{self._namespace}/configmaps/{quote(_claim_of(job))}")

    @staticmethod
    def _of_drivers() -> dict[str, str | int]:
        return {"labelSelector": f"{FORMATION_LABEL}={FORMATION},{WORKLOAD_LABEL},spark-role=driver"}

    def _call(
        self, method: Literal["GET", "POST", "DELETE"], path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any] | None:
        try:
            # read anew each time, for the kubelet replaces it
            token = (self._account / "token").read_text(encoding="ascii").strip()
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            data = json.dumps(body).encode() if body is not None else None
            answer = self._pool.request(method, self._address + path, headers=headers, body=data)
            found = json.loads(answer.data)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise KubernetesError(f"Kubernetes does not answer ({type(error).__name__})") from error
        if answer.status == _NOT_FOUND and method != "POST":
            return None
        if answer.status == _CONFLICT:
            raise ConflictError(str(found.get("message")))
        if answer.status >= _ERROR:
            raise KubernetesError(f"Kubernetes refused: {found.get('message')}")
        return dict(found)


def _claim_of(job: str) -> str:
    return f"spark-job-{job}"
