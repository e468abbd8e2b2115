"""Which objects a backup of Velero's has, by its own listing (NAME-resource-list.json.gz), and which it should have."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LISTING = "-resource-list.json.gz"

# Of API version and kind, as "apps/v1/Deployment", the objects' namespaces and names, as "lakehouse/mds".
Listing = Mapping[str, Sequence[str]]


def listing_of(objects: Iterable[Mapping[str, Any]]) -> Listing:
    """Return objects as a listing has them; those of the cluster, which have no namespace, are left out."""
    found: dict[str, list[str]] = defaultdict(list)
    for item in objects:
        metadata = item["metadata"]
        if "namespace" in metadata:
            found[f"{item['apiVersion']}/{item['kind']}"].append(f"{metadata['namespace']}/{metadata['name']}")
    return {kind: sorted(names) for kind, names in sorted(found.items())}


def read_listing(content: bytes) -> Listing:
    """Read the listing of a backup; raises ValueError where it is cut short or is none."""
    try:
        listing = json.loads(gzip.decompress(content))
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"the listing of objects cannot be read: {error}") from error
    if not isinstance(listing, dict):
        raise ValueError("the listing of objects is none")  # noqa: TRY004 - of a file's content, as the other
    return listing


def lacking_objects(wanted: Listing, listing: Listing) -> str | None:
    """Tell which of the objects that a backup should have are not in its listing; None where all are."""
    lacking = sorted(
        f"{kind.rpartition('/')[2]} {name.rpartition('/')[2]}"
        for kind, names in wanted.items()
        for name in set(names) - set(listing.get(kind, ()))
    )
    return f"{', '.join(lacking)} is not in it" if lacking else None
