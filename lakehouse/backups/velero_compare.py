"""Objects of a formation compared: what was restored into a scratch namespace, and what is there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubernetes import client

from lakehouse.formation import FORMATION_LABEL, NAMESPACE, RESTARTED, WORKLOAD_LABEL

type Objects = dict[tuple[str, str], dict[str, Any]]

# What the API server or a controller writes, or a restore marks its own objects with.
_OF_THE_SERVER = (
    "uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "ownerReferences", "selfLink",
)  # fmt: skip
_OF_THE_RESTORE = "velero.io/"
_OF_A_ROLLOUT = "deployment.kubernetes.io/"
# A service's addresses are those of its cluster; of its ports the nodes' are left out in the scratch namespace.
_OF_A_SERVICE = ("clusterIP", "clusterIPs", "ipFamilies", "healthCheckNodePort")


def objects_of(api: client.ApiClient, formation: str, namespace: str) -> Objects:
    """Return all objects of a formation in a namespace, by kind and name, without what differs between namespaces."""
    core, apps, access = client.CoreV1Api(api), client.AppsV1Api(api), client.RbacAuthorizationV1Api(api)
    lists = {
        "ConfigMap": core.list_namespaced_config_map,
        "Secret": core.list_namespaced_secret,
        "Service": core.list_namespaced_service,
        "ServiceAccount": core.list_namespaced_service_account,
        "Deployment": apps.list_namespaced_deployment,
        "StatefulSet": apps.list_namespaced_stateful_set,
        "PodDisruptionBudget": client.PolicyV1Api(api).list_namespaced_pod_disruption_budget,
        "Role": access.list_namespaced_role,
        "RoleBinding": access.list_namespaced_role_binding,
    }
    # what Spark makes for a job is the job's
    selector = f"{FORMATION_LABEL}={formation},!{WORKLOAD_LABEL}"
    found: Objects = {}
    for kind, list_ in lists.items():
        for item in list_(namespace, label_selector=selector, _request_timeout=10).items:
            plain = api.sanitize_for_serialization(item)
            found[kind, plain["metadata"]["name"]] = comparable(kind, plain, namespace)
    return found


def cluster_objects_of(api: client.ApiClient, formation: str) -> Objects:
    """Return the objects of a formation that are in no namespace: they are compared with the archive itself."""
    access = client.RbacAuthorizationV1Api(api)
    selector = f"{FORMATION_LABEL}={formation}"
    found: Objects = {}
    lists = {"ClusterRole": access.list_cluster_role, "ClusterRoleBinding": access.list_cluster_role_binding}
    for kind, list_ in lists.items():
        for item in list_(label_selector=selector, _request_timeout=10).items:
            plain = api.sanitize_for_serialization(item)
            found[kind, plain["metadata"]["name"]] = comparable(kind, plain, NAMESPACE)
    return found


def archived_cluster_objects(objects: Iterable[dict[str, Any]], formation: str) -> Objects:
    """Return the same of the objects of an archive."""
    return {
        (item["kind"], item["metadata"]["name"]): comparable(item["kind"], item, NAMESPACE)
        for item in objects
        if item["kind"] in ("ClusterRole", "ClusterRoleBinding")
        and (item["metadata"].get("labels") or {}).get(FORMATION_LABEL) == formation
    }


def comparable(kind: str, item: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """Return an object without what no backup can have: its cluster's own, and what a scratch restore leaves out."""
    plain: dict[str, Any] = json.loads(json.dumps(item).replace(f'"{namespace}"', f'"{NAMESPACE}"'))
    for name in ("status", "kind", "apiVersion"):
        plain.pop(name, None)
    metadata = plain["metadata"]
    for name in _OF_THE_SERVER:
        metadata.pop(name, None)
    for field in ("labels", "annotations"):
        marks = metadata.get(field) or {}
        metadata[field] = {
            key: value for key, value in marks.items() if not key.startswith((_OF_THE_RESTORE, _OF_A_ROLLOUT))
        }
    if kind in ("Deployment", "StatefulSet"):
        plain["spec"].pop("replicas", None)
        (plain["spec"]["template"].get("metadata", {}).get("annotations") or {}).pop(RESTARTED, None)
    if kind == "Service":
        for name in _OF_A_SERVICE:
            plain["spec"].pop(name, None)
        for port in plain["spec"].get("ports") or []:
            port.pop("nodePort", None)
    return plain


def differences(there: Objects, restored: Objects) -> tuple[str, ...]:
    """Name each object that was not restored, or not as it is there; what was restored and is not there, too."""
    found = [f"{kind} {name} is missing" for kind, name in sorted(set(there) - set(restored))]
    found += [f"{kind} {name} is in the backup and not there" for kind, name in sorted(set(restored) - set(there))]
    for kind, name in sorted(set(there) & set(restored)):
        if paths := sorted(_differing("", there[kind, name], restored[kind, name])):
            found.append(f"{kind} {name} differs in {', '.join(paths[:5])}")
    return tuple(found)


def _differing(path: str, one: object, other: object) -> Sequence[str]:
    """Return the paths at which two values differ; never the values, which may be secret."""
    if isinstance(one, dict) and isinstance(other, dict):
        paths: list[str] = []
        for key in one.keys() | other.keys():
            paths += _differing(f"{path}.{key}" if path else str(key), one.get(key), other.get(key))
        return paths
    return [] if one == other else [path]
