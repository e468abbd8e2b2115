"""Milvus as a client sees it: a search in each collection that is loaded, through the region's load balancer."""

from __future__ import annotations

from typing import Any

from gameday.session import current

_TIMEOUT_S = 5.0


def serves() -> bool:
    """Tell whether Milvus lists its collections and answers a search in each that is loaded.

    Its own health page is not asked: what it says is what is to be known.
    """
    return searches(current().endpoints["milvus"])


def searches(address: str) -> bool:
    """Tell the same of a Milvus at an address, `http://HOST:PORT`."""
    # a second of work, which runs without Milvus need not do
    import grpc  # noqa: PLC0415
    from pymilvus import MilvusClient, MilvusException  # noqa: PLC0415

    try:
        client = MilvusClient(address, timeout=_TIMEOUT_S, dedicated=True)
        try:
            for name in client.list_collections(timeout=_TIMEOUT_S):
                _search(client, name)
        finally:
            client.close()
    except (MilvusException, grpc.RpcError):
        return False
    return True


def _search(client: Any, name: str) -> None:  # noqa: ANN401 - imported where it is needed
    from pymilvus.client.types import DataType, LoadState  # noqa: PLC0415

    if client.get_load_state(name, timeout=_TIMEOUT_S)["state"] != LoadState.Loaded:
        return
    for field in client.describe_collection(name, timeout=_TIMEOUT_S)["fields"]:
        if field["type"] == DataType.FLOAT_VECTOR:
            zero = [[0.0] * int(field["params"]["dim"])]
            client.search(name, data=zero, anns_field=field["name"], limit=1, timeout=_TIMEOUT_S)
