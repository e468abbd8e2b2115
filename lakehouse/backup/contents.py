"""What etcd holds at one revision: all keys with their values, and the objects of the bucket that they refer to."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

# Of Milvus's metadata, below its root: a key each segment, whose value names the object.
_SEGMENTS = "meta/datacoord-meta/s/"
# Where below Milvus's root path in the bucket these lie.
_OBJECTS = "insert_log"


@dataclass(frozen=True)
class Contents:
    """All keys of etcd at a revision: of each its value, and the revision that changed it last."""

    keys: Mapping[str, tuple[bytes, int]]

    @classmethod
    def of_answer(cls, answer: bytes) -> Contents:
        """Read what `etcdctl get "" --prefix -w json` printed; raises ValueError or KeyError where it is no answer."""
        pairs = json.loads(answer).get("kvs", [])
        read = base64.b64decode
        return cls({read(one["key"]).decode(): (read(one.get("value", "")), int(one["mod_revision"])) for one in pairs})

    def last_changed_as_in(self, other: Contents) -> Contents:
        """Return the keys that the same revision changed last in both: they hold the same, whatever befell others."""
        both = self.keys.keys() & other.keys.keys()
        return Contents({key: self.keys[key] for key in both if self.keys[key][1] == other.keys[key][1]})

    def digest(self) -> str:
        """Return a SHA-256 of all of it: two that are the same have the same one."""
        whole = hashlib.sha256()
        for key, (value, revision) in sorted(self.keys.items()):
            whole.update(f"{len(key.encode())}:{key}{len(value)}:{revision}:".encode())
            whole.update(value)
        return whole.hexdigest()

    def referenced(self, root: str, root_path: str) -> set[str]:
        """Return the objects that segments are, by their names in the bucket.

        `root` is the first part of every key. Raises ValueError for a segment that does not say which object it is.
        """
        found = set()
        for key, (value, _) in self.keys.items():
            if key.startswith(f"{root}/{_SEGMENTS}"):
                try:
                    found.add(f"{root_path}/{_OBJECTS}/{json.loads(value)['path']}")
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(f"the segment {key} does not say which object it is") from error
        return found
