"""Metadata of the stand-in for Milvus, read from a real etcd: what changed since, and all of it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest
from milvus_lab import etcd_alone

from lakehouse.milvus.etcd import Etcd, Pair
from lakehouse.milvus.metadata import PARTITIONS, Metadata, Snapshot

pytestmark = pytest.mark.needs("milvus")

KEYS = [f"by-dev/{PARTITIONS}7/p{number}" for number in range(6)] + ["by-dev/session/one", "by-dev/session/two"]


class CountingEtcd(Etcd):
    """Tells of each read how many pairs were sent."""

    sent: list[int]

    def changes(self, prefix: str, since: int, revision: int = 0) -> tuple[int, list[Pair], int]:
        """Return what etcd answers, and note how much that was."""
        found = super().changes(prefix, since, revision)
        self.sent.append(len(found[1]))
        return found


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountingEtcd]:
    """Return the client of an etcd of one member on loopback."""
    with etcd_alone(tmp_path_factory.mktemp("metadata")) as endpoint:
        found = CountingEtcd([endpoint])
        found.sent = []
        yield found


@pytest.fixture
def metadata(etcd: CountingEtcd) -> Metadata:
    """Return the metadata of an empty etcd, of which nothing was read."""
    etcd.commit([], {"elsewhere": b"1"}, ["by-dev/"])
    etcd.sent.clear()
    return Metadata(etcd, "by-dev")


def _put(etcd: Etcd, *keys: str, name: str = "p") -> int:
    return etcd.commit([], {key: json.dumps({"name": name}).encode() for key in keys}) or 0


def test_of_what_is_known_only_the_changes_are_sent(etcd: CountingEtcd, metadata: Metadata) -> None:
    """The rest is as it was; also where one thing that was known is another now."""
    _put(etcd, *KEYS)
    etcd.commit([], {"by-dev/kv/gid/timestamp": b'{"last": 5, "by": "one"}'})
    known = metadata.read()
    _put(etcd, KEYS[2], name="other")
    seen = metadata.read(known=known)
    assert etcd.sent == [len(KEYS) + 1, 1]
    assert seen == metadata.read() != known
    assert seen.last == 5


def test_what_is_gone_is_not_known_for_ever(etcd: CountingEtcd, metadata: Metadata) -> None:
    """Also where as much was put in the same moment, and where only a session has ended."""
    _put(etcd, *KEYS[:5], KEYS[6])
    known = metadata.read()
    for deleted, added in ((KEYS[1], KEYS[5]), (KEYS[6], KEYS[7])):
        etcd.commit([], {added: b'{"name": "p"}'}, [deleted])
        known = metadata.read(known=known)
        assert known == metadata.read()
    assert f"{PARTITIONS}7/p1" not in known.entries
    assert known.others == {"session/two"}


def test_the_past_is_read_from_what_was_known_before_it_alone(etcd: CountingEtcd, metadata: Metadata) -> None:
    """What is known of a later revision says nothing of an earlier one."""
    revisions = [_put(etcd, key) for key in KEYS]
    first, last = metadata.read(revisions[0]), metadata.read()
    for known in (first, last, None):
        assert metadata.read(revisions[3], known) == metadata.read(revisions[3])
    assert len(metadata.read(revisions[3]).entries) == 4
    # nothing came and nothing went, so that the number of keys tells nothing
    _put(etcd, KEYS[0], name="other")
    assert metadata.read(revisions[-1], metadata.read()) == metadata.read(revisions[-1])


def test_an_etcd_with_an_earlier_state_is_read_anew(etcd: CountingEtcd, metadata: Metadata) -> None:
    """As after a restore from a backup: what is known is of a revision that is still to come."""
    _put(etcd, *KEYS)
    now = metadata.read()
    later = Snapshot(now.revision + 1000, dict.fromkeys(now.entries, None), now.numbers, now.last, now.others)  # type: ignore[arg-type] # what never was
    assert metadata.read(known=later) == now


def test_whatever_happens_is_read_as_if_nothing_were_known(etcd: CountingEtcd, metadata: Metadata) -> None:
    """Puts and deletes at random, several at once, and readers that look now and then."""
    source = random.Random(11)  # noqa: S311 - the same every time
    known: Snapshot | None = None
    for _ in range(60):
        changed = source.sample(KEYS, source.randint(1, 3))
        puts = {key: json.dumps({"name": str(source.random())}).encode() for key in changed if source.random() < 0.6}
        etcd.commit([], puts, [key for key in changed if key not in puts])
        if source.random() < 0.7:
            known = metadata.read(known=known)
            assert known == metadata.read()
