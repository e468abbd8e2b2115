"""etcd, several members of it: one that does not answer is passed over for the next.

Reads are linearizable, and a transaction either happened or did not; one whose answer was lost says so.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etcd3gw.client import Etcd3Client
from etcd3gw.exceptions import Etcd3Exception
from requests import RequestException

# A member whose machine is gone does not refuse, it is silent.
_MEMBER_TIMEOUT_S = 1.5
_PAUSE_S = 0.1
# etcd's own words
_NO_SUCH_REVISION = ("revision has been compacted", "is a future revision")


class EtcdError(RuntimeError):
    """etcd did not answer, or refused."""


class UnknownRevision(EtcdError):
    """etcd has no such revision: it no longer keeps it, or was restored from a time before it."""


class Unsure(EtcdError):
    """The answer to a transaction was lost: it may have happened."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A key and its value; `revision` is that of its last change."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Unchanged:
    """What a transaction depends on: a key whose last change is of this revision, 0 for one that is not there."""

    key: str
    revision: int


class Etcd:
    """A client of all members. Calls raise EtcdError once none has answered for `deadline_s` seconds."""

    def __init__(self, endpoints: Sequence[str], deadline_s: float = 8.0) -> None:
        self._members = [_member(endpoint) for endpoint in endpoints]
        self._first = 0
        self._deadline_s = deadline_s

    def pairs(self, prefix: str, revision: int = 0) -> tuple[int, list[Pair]]:
        """Return etcd's revision, and what is under a prefix: as it is, or as it was at `revision`."""
        seen, found, _ = self.changes(prefix, 0, revision)
        return seen, found

    def changes(self, prefix: str, since: int, revision: int = 0) -> tuple[int, list[Pair], int]:
        """Return what `pairs` does, but of the pairs those alone that were put after `since`, and how many there are.

        What was deleted since then is missing from that number.
        """
        body: dict[str, Any] = {"key": _encoded(prefix), "range_end": _encoded(_after(prefix))}
        body |= {"min_mod_revision": since + 1} if since else {}
        body |= {"revision": revision} if revision else {}
        answer = self._call("/kv/range", body)
        pairs = [_pair(item) for item in answer.get("kvs", [])]
        return int(answer["header"]["revision"]), pairs, int(answer.get("count", 0))

    def commit(
        self,
        depends: Sequence[Unchanged],
        puts: Mapping[str, bytes],
        deletes: Sequence[str] = (),
        *,
        lease: int = 0,
    ) -> int | None:
        """Put and delete (a key that ends with a slash: all under it) if what it depends on is unchanged.

        Returns the revision that it made, None where something had changed. Raises Unsure where the answer was lost.
        """
        compare = [
            {"key": _encoded(one.key), "target": "MOD", "result": "EQUAL", "mod_revision": one.revision}
            for one in depends
        ]
        operations: list[dict[str, Any]] = [{"request_delete_range": _all_under(key)} for key in deletes]
        operations += [
            {"request_put": {"key": _encoded(key), "value": base64.b64encode(value).decode(), "lease": lease}}
            for key, value in puts.items()
        ]
        answer = self._call("/kv/txn", {"compare": compare, "success": operations}, once=True)
        return int(answer["header"]["revision"]) if answer.get("succeeded") else None

    def grant(self, ttl_s: int) -> int:
        """Return a lease that ends unless it is kept alive every `ttl_s` seconds."""
        return int(self._call("/lease/grant", {"TTL": ttl_s})["ID"])

    def keep_alive(self, lease: int) -> bool:
        """Prolong a lease; False where it has ended already."""
        result = self._call("/lease/keepalive", {"ID": lease}).get("result", {})
        return int(result.get("TTL", 0)) > 0

    def _call(self, path: str, body: Mapping[str, Any], *, once: bool = False) -> dict[str, Any]:
        """Ask one member after the other; `once` where a request that may have been carried out is not sent again."""
        deadline, problem = time.monotonic() + self._deadline_s, "nobody was asked"
        while time.monotonic() < deadline:
            first = self._first
            for number in range(first, first + len(self._members)):
                member = self._members[number % len(self._members)]
                try:
                    answer: dict[str, Any] = member.post(member.get_url(path), json=body)
                except (Etcd3Exception, RequestException) as error:
                    problem = " ".join(f"{error} {getattr(error, 'detail_text', '') or ''}".split())[:200]
                    if any(words in problem for words in _NO_SUCH_REVISION):
                        raise UnknownRevision(problem) from error
                    if type(error) is Etcd3Exception:
                        # an answer, and no: it is the same from every member
                        raise EtcdError(f"etcd refused: {problem}") from error
                    # the next call begins with another member
                    self._first = number + 1
                    if once and "onnection refused" not in problem:
                        raise Unsure(f"the answer of etcd to a transaction was lost: {problem}") from error
                else:
                    return answer
            time.sleep(_PAUSE_S)
        raise EtcdError(f"etcd did not answer for {self._deadline_s:g} s: {problem}")


def _member(endpoint: str) -> Etcd3Client:
    host, _, port = endpoint.rpartition(":")
    return Etcd3Client(host=host, port=int(port), api_path="/v3/", timeout=_MEMBER_TIMEOUT_S)


def _pair(item: Mapping[str, str]) -> Pair:
    value = base64.b64decode(item.get("value", ""))
    return Pair(base64.b64decode(item["key"]).decode(), value, int(item["mod_revision"]))


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _all_under(key: str) -> dict[str, str]:
    whole = {"range_end": _encoded(_after(key))} if key.endswith("/") else {}
    return {"key": _encoded(key), **whole}


def _after(prefix: str) -> str:
    # keys here are ASCII: the first string behind all that begin with the prefix
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
