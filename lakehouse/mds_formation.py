"""The formation of MDS: the ConfigMap and the Secret that it reads its settings from, and what it declares."""

from __future__ import annotations

from typing import Any

from lakehouse.formation import MAX_CONCURRENT_REQUESTS, Entrance, Formation, FormationValues, config_map, secret
from lakehouse.provider import BUCKET, DATABASE, DATABASE_PORT, DATABASE_USER, OBJECT_STORE_PORT, REGION_OF_STORE

NAME = "mds"
PORT, NODE_PORT = 8181, 30181
# From SIGTERM on: two failed checks of the load balancer (1 s), two of the kubelet (2 s); then nobody comes any more.
DRAIN_S = 3


def config(values: FormationValues) -> list[dict[str, Any]]:
    """Return the ConfigMap and the Secret that MDS reads its settings from."""
    settings = {
        "MDS_WAREHOUSE": f"s3://{BUCKET}/warehouse",
        "MDS_S3_ENDPOINT": f"http://{values.object_store_address}:{OBJECT_STORE_PORT}",
        "MDS_S3_REGION": REGION_OF_STORE,
        "MDS_MAX_CONCURRENT_REQUESTS": str(values.max_concurrent_requests),
        "MDS_DRAIN_SECONDS": str(DRAIN_S),
        "MDS_PORT": str(PORT),
    }
    address = f"{values.database_address}:{DATABASE_PORT}/{DATABASE}"
    secrets = {
        "MDS_DATABASE_URI": f"postgresql+psycopg://{DATABASE_USER}:{values.database_password}@{address}",
        "MDS_S3_ACCESS_KEY": values.object_store_key,
        "MDS_S3_SECRET_KEY": values.object_store_secret,
    }
    return [config_map(NAME, NAME, settings), secret(NAME, NAME, secrets)]


MDS = Formation(
    name=NAME,
    deployments={NAME: 3},
    entrance=Entrance(PORT, NODE_PORT, "/readyz"),
    config=config,
    declared={"mds.max_concurrent_requests": MAX_CONCURRENT_REQUESTS, "mds.drain_s": DRAIN_S},
)
