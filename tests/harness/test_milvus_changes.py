"""Changes of metadata by two replicas of the stand-in for Milvus at once, in a real etcd."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from milvus_lab import etcd_alone
from pymilvus import CollectionSchema, DataType, FieldSchema
from pymilvus.client.prepare import Prepare
from pymilvus.grpc_gen import milvus_pb2 as pb
from pymilvus.grpc_gen.common_pb2 import LoadState

from lakehouse.milvus import replica as replicas
from lakehouse.milvus.engine import Engine, refusal
from lakehouse.milvus.etcd import Etcd, EtcdError
from lakehouse.milvus.metadata import Metadata, Snapshot
from lakehouse.milvus.replica import Replica
from lakehouse.milvus.settings import read_settings

pytestmark = pytest.mark.needs("milvus")

NAME = "houses"
_DIMENSION = 4


class Contested(Metadata):
    """Lets somebody else be quicker with the next change, or etcd be away."""

    rival: Callable[[], None] | None = None

    def change(self, seen: Snapshot, puts: Mapping[str, Mapping[str, Any]], deletes: Sequence[str]) -> int | None:
        """Change metadata after the rival did."""
        rival, self.rival = self.rival, None
        if rival is not None:
            rival()
        return super().change(seen, puts, deletes)


class OfMetadata(Replica):
    """A replica without a log, of which metadata alone is asked."""

    def mark(self, revision: int) -> None:
        """Have no log to mark it in."""

    def made(self, method: str, request: Message) -> None:
        """Make a change that is no failure."""
        assert refusal(self.change(method, request)) is None

    def state(self) -> dict[str, Any]:
        """Return what clients are told of the metadata."""

        def told(method: str, request: Message) -> Any:  # noqa: ANN401 - any answer of the service
            return self.known(method, request)

        names = sorted(told("ShowCollections", pb.ShowCollectionsRequest()).collection_names)
        return {
            name: (
                sorted(told("ShowPartitions", pb.ShowPartitionsRequest(collection_name=name)).partition_names),
                [
                    (one.index_name, one.field_name)
                    for one in told("DescribeIndex", pb.DescribeIndexRequest(collection_name=name)).index_descriptions
                ],
                sorted(told("ListAliases", pb.ListAliasesRequest(collection_name=name)).aliases),
                told("GetLoadState", pb.GetLoadStateRequest(collection_name=name)).state,
            )
            for name in names
        }


type Pair = tuple[OfMetadata, OfMetadata, Contested, list[Path]]


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 - a generator fixture
    """Return two replicas of one etcd with one collection, the first one's metadata, and the engines begun since."""
    begun: list[Path] = []

    class Counted(Engine):
        def __init__(self, folder: Path) -> None:
            begun.append(folder)
            super().__init__(folder)

    monkeypatch.setattr(replicas, "Engine", Counted)
    unused: Any = None

    def replica(name: str, endpoint: str, metadata: Metadata) -> OfMetadata:
        needed = dict.fromkeys(("BUCKET", "S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY", "KAFKA_BROKERS"), "none")
        needed |= {"ETCD_ENDPOINTS": endpoint, "DATA": str(tmp_path / name)}
        settings = read_settings({"POD_NAME": name} | {f"MILVUS_{key}": value for key, value in needed.items()})
        return OfMetadata(settings, metadata, unused, unused)

    with etcd_alone(tmp_path) as endpoint:
        contested = Contested(Etcd([endpoint]), "by-dev")
        one, other = (
            replica("one", endpoint, contested),
            replica("other", endpoint, Metadata(Etcd([endpoint]), "by-dev")),
        )
        fields = [
            FieldSchema("key", DataType.INT64, is_primary=True),
            FieldSchema("vector", DataType.FLOAT_VECTOR, dim=_DIMENSION),
        ]
        other.made("CreateCollection", Prepare.create_collection_request(NAME, CollectionSchema(fields)))
        other.made("CreatePartition", partition("first"))
        other.made("CreateAlias", pb.CreateAliasRequest(collection_name=NAME, alias="homes"))
        assert one.state() == other.state()
        begun.clear()
        yield one, other, contested, begun


def partition(name: str) -> pb.CreatePartitionRequest:
    """Return the request that makes a partition."""
    return pb.CreatePartitionRequest(collection_name=NAME, partition_name=name)


INDEX = {"index_type": "FLAT", "metric_type": "L2"}
LOAD = ("LoadCollection", pb.LoadCollectionRequest(collection_name=NAME))
CHANGES = {
    "a partition is made": ("CreatePartition", partition("mine")),
    "a partition is dropped": ("DropPartition", pb.DropPartitionRequest(collection_name=NAME, partition_name="first")),
    "an index is made": ("CreateIndex", Prepare.create_index_request(NAME, "vector", INDEX)),
    "an alias is dropped": ("DropAlias", pb.DropAliasRequest(alias="homes")),
    "the collection is dropped": ("DropCollection", pb.DropCollectionRequest(collection_name=NAME)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("quicker", ["other", "mine"])
def test_a_change_that_another_was_quicker_than_is_made_after_it(pair: Pair, change: str, quicker: str) -> None:
    """And both tell the same; the one that lost begins no engine anew, which takes longer with each partition."""
    one, other, contested, begun = pair
    contested.rival = lambda: other.made("CreatePartition", partition(quicker))
    one.made(*CHANGES[change])
    assert contested.rival is None
    assert one.state() == other.state()
    partitions = one.state()[NAME][0] if NAME in one.state() else []
    assert (quicker in partitions) == (change != "the collection is dropped")
    assert ("first" in partitions) == (change not in ("a partition is dropped", "the collection is dropped"))
    assert begun == []


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_etcd_did_not_take_is_not_told_of(pair: Pair, change: str) -> None:
    """Nor by who tried it: what was rehearsed is taken back, with what belonged to it."""
    one, other, contested, begun = pair
    before = other.state()

    def away() -> None:
        raise EtcdError("etcd is away")

    contested.rival = away
    with pytest.raises(EtcdError, match="away"):
        one.change(*CHANGES[change])
    assert one.state() == before
    one.made(*CHANGES[change])
    assert one.state() == other.state() != before
    assert begun == []


def test_an_index_of_a_loaded_collection_is_taken_back_too(pair: Pair) -> None:
    """The engine drops none of a loaded one, which stays loaded all the same."""
    one, other, contested, begun = pair
    other.made("CreateIndex", CHANGES["an index is made"][1])
    other.made(*LOAD)
    one.made("ReleaseCollection", pb.ReleaseCollectionRequest(collection_name=NAME))
    one.made("DropIndex", pb.DropIndexRequest(collection_name=NAME, field_name="vector"))
    one.made(*LOAD)
    contested.rival = lambda: other.made("CreatePartition", partition("other"))
    one.made(*CHANGES["an index is made"])
    assert one.state() == other.state()
    assert one.state()[NAME][-1] == LoadState.LoadStateLoaded
    assert begun == []


@pytest.mark.parametrize("applied", [True, False])
def test_who_asks_waits_behind_a_change_only_where_the_log_is_behind(pair: Pair, *, applied: bool) -> None:
    """A change may wait for etcd for seconds; what was there before it is told from what the log has brought."""
    one, other, metadata, _ = pair
    other.made("CreatePartition", partition("theirs"))
    if applied:
        one.engine.reconcile(metadata.read())
    before = ["_default", "first", "theirs"]
    answered: list[list[str]] = []

    def ask() -> None:
        answer: Any = one.known("ShowPartitions", pb.ShowPartitionsRequest(collection_name=NAME))
        answered.append(sorted(answer.partition_names))

    asking = threading.Thread(target=ask)

    def while_it_is_made() -> None:
        asking.start()
        asking.join(10 if applied else 0.5)
        assert answered == ([before] if applied else [])

    metadata.rival = while_it_is_made
    one.made("CreatePartition", partition("mine"))
    asking.join(10)
    assert answered == [before if applied else sorted([*before, "mine"])]
