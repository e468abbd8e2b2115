"""Evictions: asking Kubernetes for a pod's orderly end, to which its disruption budget may say "not now"."""

from __future__ import annotations

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from gameday.errors import HarnessError
from gameday.session import Session

_NOT_FOUND, _TOO_MANY_REQUESTS = 404, 429


def evict(session: Session, name: str, namespace: str) -> bool:
    """Ask for the eviction of a pod: True where it is under way or the pod is gone, False where the budget forbids it.

    Raises HarnessError where the API server refuses for another reason.
    """
    body = client.V1Eviction(metadata=client.V1ObjectMeta(name=name, namespace=namespace))
    try:
        session.core.create_namespaced_pod_eviction(name, namespace, body)
    except ApiException as error:
        if error.status not in (_NOT_FOUND, _TOO_MANY_REQUESTS):
            raise HarnessError(f"the pod {name} was not evicted: {error.reason}") from error
        return bool(error.status == _NOT_FOUND)
    return True
