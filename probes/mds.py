"""MDS as a client sees it: a real request through the region's load balancer."""

from __future__ import annotations

from probes.listing import listed


def serves() -> bool:
    """Tell whether the catalogue answers a listing of its namespaces, which reads its database."""
    return listed("mds", "/v1/namespaces")
