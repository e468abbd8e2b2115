"""Objects of Kubernetes put where they belong, on the server's side."""

from __future__ import annotations

from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError

from gameday.errors import HarnessError

_FIELD_MANAGER = "lakehouse-chaos"


def apply(api: client.ApiClient, objects: list[dict[str, Any]]) -> None:
    """Apply objects on the server's side in the order given; raises HarnessError naming the one that is refused."""
    dynamic = DynamicClient(api)
    for item in objects:
        name = f"{item['kind']}/{item['metadata']['name']}"
        try:
            resource = dynamic.resources.get(api_version=item["apiVersion"], kind=item["kind"])
            dynamic.server_side_apply(
                resource,
                body=item,
                name=item["metadata"]["name"],
                namespace=item["metadata"].get("namespace"),
                field_manager=_FIELD_MANAGER,
                force_conflicts=True,
            )
        except (ApiException, ConflictError, NotFoundError) as error:
            raise HarnessError(f"{name} was refused by the API server: {' '.join(str(error).split())[:300]}") from error
