"""Velero's own objects on a cluster: their kinds, made before all else and removed after it, and each by its name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import httpx
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from gameday.errors import HarnessError
from gameday.waiting import wait_until
from lakehouse.applying import apply
from lakehouse.backup_formation import NAME, NODE_AGENT, VELERO, descriptions, schedule_name
from lakehouse.formation import NAMESPACE, SERVICE_LABEL, Formation

_GROUP, _VERSION = "velero.io", "v1"
_DEADLINE_S = 30.0
_GONE_DEADLINE_S = 120.0
# Begins the name of a namespace into which a backup is restored to be compared.
SCRATCH = f"{NAMESPACE}-verify-"
RESTORES_OF_VOLUMES = "podvolumerestores"
# What Velero wants to clean up itself, which it cannot when it goes too.
_HELD = ("restores", "backups", "datauploads", "datadownloads", RESTORES_OF_VOLUMES, "podvolumebackups")


def describe(api: client.ApiClient) -> None:
    """Teach a cluster the kinds of objects that Velero works with; raises HarnessError, DeadlinePassed."""
    wanted = descriptions()
    apply(api, wanted)
    names = {item["metadata"]["name"] for item in wanted}

    def look() -> str | None:
        found = client.ApiextensionsV1Api(api).list_custom_resource_definition(_request_timeout=10).items
        known = {item.metadata.name for item in found if _established(item)}
        return ", ".join(sorted(names - known)) or None

    wait_until("the kinds of Velero's objects to be known", look, deadline_s=_DEADLINE_S)


def _established(item: Any) -> bool:  # noqa: ANN401 - the Kubernetes client carries no types
    return item.metadata.deletion_timestamp is None and any(
        one.type == "Established" and one.status == "True" for one in item.status.conditions or []
    )


def lacks(api: client.ApiClient) -> str | None:
    """Tell what Velero lacks to take a backup: a store that it has found, or agents on all nodes."""
    stores = listed(api, "backupstoragelocations")
    if not any((item.get("status") or {}).get("phase") == "Available" for item in stores):
        return f"{VELERO}: it has not found its store"
    agents = client.AppsV1Api(api).read_namespaced_daemon_set(NODE_AGENT, NAMESPACE, _request_timeout=10).status
    ready, wanted = agents.number_ready or 0, agents.desired_number_scheduled or 0
    return None if 0 < wanted == ready else f"{NODE_AGENT}: {ready} of {wanted} ready"


def forget(api: client.ApiClient, formations: Sequence[Formation]) -> None:
    """Remove the schedules of formations that are not deployed any more; their backups stay."""
    for formation in formations:
        delete(api, "schedules", schedule_name(formation.name))


def release(api: client.ApiClient) -> None:
    """Let Velero's objects go without Velero, which is to go with them."""
    for kind in _HELD:
        for item in listed(api, kind):
            if item["metadata"].get("finalizers"):
                patch(api, kind, item["metadata"]["name"], {"metadata": {"finalizers": None}})


def remove_descriptions(api: client.ApiClient) -> None:
    """Remove the kinds of Velero's objects, and with them what is left of these, and the right to do everything."""
    label = f"{SERVICE_LABEL}={NAME}"
    client.ApiextensionsV1Api(api).delete_collection_custom_resource_definition(label_selector=label)
    client.RbacAuthorizationV1Api(api).delete_collection_cluster_role_binding(label_selector=label)

    def look() -> str | None:
        kinds = client.ApiextensionsV1Api(api).list_custom_resource_definition(label_selector=label).items
        return f"{len(kinds)} are there" if kinds else None

    # one made anew at once would go with what it was
    wait_until("the kinds of Velero's objects to be gone", look, deadline_s=_DEADLINE_S)


def remove_scratch(api: client.ApiClient) -> None:
    """Remove what a verification that was killed left behind: its namespaces, and what it asked node agents for."""
    for item in listed(api, RESTORES_OF_VOLUMES):
        if item["metadata"]["name"].startswith(SCRATCH):
            delete(api, RESTORES_OF_VOLUMES, item["metadata"]["name"])
    for item in client.CoreV1Api(api).list_namespace(_request_timeout=10).items:
        if item.metadata.name.startswith(SCRATCH):
            remove_namespace(api, item.metadata.name)


def remove_namespace(api: client.ApiClient, namespace: str) -> None:
    """Remove a namespace, and wait until it is gone; raises DeadlinePassed where it stays."""
    core = client.CoreV1Api(api)

    def look() -> str | None:
        try:
            core.delete_namespace(namespace)
        except ApiException as error:
            return None if error.status == httpx.codes.NOT_FOUND else f"it is being deleted ({error.reason})"
        return "it is there"

    wait_until(f"namespace {namespace} to be gone", look, deadline_s=_GONE_DEADLINE_S)


def listed(api: client.ApiClient, kind: str, label: str = "") -> list[dict[str, Any]]:
    """Return all objects of a kind (`backups`); none where the cluster does not know it."""
    try:
        found = client.CustomObjectsApi(api).list_namespaced_custom_object(
            _GROUP, _VERSION, NAMESPACE, kind, label_selector=label, _request_timeout=10
        )
    except ApiException as error:
        if error.status == httpx.codes.NOT_FOUND:
            return []
        raise HarnessError(f"Velero's {kind} cannot be listed: {error.reason}") from error
    except HTTPError as error:
        raise HarnessError(f"Velero's {kind} cannot be listed: the API server does not answer") from error
    items: list[dict[str, Any]] = found["items"]
    return items


def made(api: client.ApiClient, kind: str, body: dict[str, Any]) -> None:
    """Make an object of a kind; raises HarnessError where the API server refuses it."""
    try:
        client.CustomObjectsApi(api).create_namespaced_custom_object(_GROUP, _VERSION, NAMESPACE, kind, body)
    except ApiException as error:
        raise HarnessError(f"Velero's {kind} {body['metadata']['name']} was refused: {error.reason}") from error


def read(api: client.ApiClient, kind: str, name: str) -> dict[str, Any]:
    """Return an object; raises HarnessError where there is none."""
    try:
        found: dict[str, Any] = client.CustomObjectsApi(api).get_namespaced_custom_object(
            _GROUP, _VERSION, NAMESPACE, kind, name, _request_timeout=10
        )
    except ApiException as error:
        raise HarnessError(f"Velero's {kind} {name} cannot be read: {error.reason}") from error
    return found


def await_ended(
    api: client.ApiClient, kind: str, name: str, phases: Collection[str], deadline_s: float
) -> dict[str, Any]:
    """Wait until an object is in one of the phases in which it ends, and return its status; raises DeadlinePassed."""
    status: dict[str, Any] = {}

    def look() -> str | None:
        status.update(read(api, kind, name).get("status") or {})
        return None if status.get("phase") in phases else str(status.get("phase") or "it has not begun")

    wait_until(f"{kind} {name} to end", look, deadline_s=deadline_s)
    return status


def patch(api: client.ApiClient, kind: str, name: str, body: dict[str, Any]) -> None:
    """Change an object; one that is gone is no error."""
    try:
        client.CustomObjectsApi(api).patch_namespaced_custom_object(_GROUP, _VERSION, NAMESPACE, kind, name, body)
    except ApiException as error:
        if error.status != httpx.codes.NOT_FOUND:
            raise HarnessError(f"Velero's {kind} {name} cannot be changed: {error.reason}") from error


def delete(api: client.ApiClient, kind: str, name: str) -> None:
    """Delete an object; one that is gone is no error."""
    try:
        client.CustomObjectsApi(api).delete_namespaced_custom_object(_GROUP, _VERSION, NAMESPACE, kind, name)
    except ApiException as error:
        if error.status != httpx.codes.NOT_FOUND:
            raise HarnessError(f"Velero's {kind} {name} cannot be deleted: {error.reason}") from error
