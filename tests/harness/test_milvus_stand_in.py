"""The stand-in for Milvus, with real etcd, Kafka and object store, as pymilvus and a disaster see it."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from milvus_lab import BUCKET, GROUP, MilvusLab, eventually
from pymilvus import MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2

from lakehouse.milvus.changes import change_of
from lakehouse.milvus.etcd import Etcd
from lakehouse.milvus.metadata import Metadata

pytestmark = [GROUP, pytest.mark.needs("milvus")]

DIMENSION = 8
_names = count()


@pytest.fixture
def one(lab: MilvusLab) -> MilvusClient:
    """Return a client of the first replica."""
    return lab.client("one")


@pytest.fixture
def collection(one: MilvusClient) -> Iterator[str]:
    """Return an empty collection of vectors with whole numbers as keys."""
    name = f"c{next(_names)}"
    one.create_collection(name, dimension=DIMENSION, metric_type="L2")
    yield name
    one.drop_collection(name)


def rows(*keys: int) -> list[dict[str, object]]:
    """Return a row for each key, whose vector is made from it."""
    return [{"id": key, "vector": [float(key)] * DIMENSION, "parity": key % 2} for key in keys]


def keys(client: MilvusClient, name: str) -> list[int]:
    """Return the keys of all rows."""
    return sorted(row["id"] for row in client.query(name, filter="id >= 0", output_fields=["id"]))


def answers(client: MilvusClient, name: str) -> bool:
    """Tell whether a read of a collection succeeds."""
    try:
        keys(client, name)
    except MilvusException:
        return False
    return True


def test_the_first_steps_of_pymilvus_give_what_they_are_documented_to(one: MilvusClient) -> None:
    """Create, insert, search with a filter, query, delete, drop: pymilvus as it is."""
    one.create_collection("demo", dimension=DIMENSION, metric_type="L2")
    inserted = one.insert("demo", rows(*range(10)))
    assert inserted["insert_count"] == 10
    assert list(inserted["ids"]) == list(range(10))
    (nearest,) = one.search("demo", data=[[4.1] * DIMENSION], limit=3, output_fields=["parity"])
    assert [hit["id"] for hit in nearest] == [4, 5, 3]
    assert nearest[0]["entity"]["parity"] == 0
    (odd,) = one.search("demo", data=[[4.1] * DIMENSION], limit=2, filter="parity == 1")
    assert [hit["id"] for hit in odd] == [5, 3]
    assert [row["id"] for row in one.query("demo", filter="parity == 1 and id > 4", output_fields=["id"])] == [5, 7, 9]
    one.delete("demo", filter="parity == 1")
    assert keys(one, "demo") == [0, 2, 4, 6, 8]
    one.drop_collection("demo")
    assert not one.has_collection("demo")
    with pytest.raises(MilvusException, match="demo"):
        one.insert("demo", rows(1))


def test_nearest_neighbours_are_those_of_an_exact_search(one: MilvusClient, collection: str) -> None:
    """Recall at 10 against an exact search is at least 0.95."""
    made = np.random.default_rng(7)
    vectors = made.random((2000, DIMENSION), dtype=np.float32)
    one.insert(collection, [{"id": key, "vector": vector.tolist()} for key, vector in enumerate(vectors)])
    asked = made.random((50, DIMENSION), dtype=np.float32)
    found = one.search(collection, data=asked.tolist(), limit=10)
    exact = np.argsort(((asked[:, None] - vectors[None]) ** 2).sum(axis=2), axis=1)[:, :10]
    recall = np.mean(
        [len({hit["id"] for hit in hits} & set(best)) / 10 for hits, best in zip(found, exact, strict=True)]
    )
    assert recall >= 0.95


def test_what_one_replica_took_the_other_has(lab: MilvusLab, one: MilvusClient, collection: str) -> None:
    """Writes and changes of metadata are there in the other replica with its next answer."""
    two = lab.client("two")
    for key in range(20):
        (one, two)[key % 2].insert(collection, rows(key))
        assert keys((two, one)[key % 2], collection) == list(range(key + 1))
    two.upsert(collection, [{"id": 3, "vector": [0.5] * DIMENSION, "parity": 7}])
    assert one.get(collection, ids=[3])[0]["parity"] == 7
    one.create_alias(collection, "known-as".replace("-", "_"))
    two.insert("known_as", rows(100))
    assert 100 in keys(one, collection)
    one.drop_alias("known_as")


def test_collections_made_at_once_by_both_are_all_there(lab: MilvusLab) -> None:
    """Changes of metadata by two replicas at the same time do not undo each other."""
    clients = [lab.client("one"), lab.client("two")]
    names = [[f"at_once_{number}_{turn}" for turn in range(4)] for number in range(2)]

    def make(number: int) -> None:
        for name in names[number]:
            clients[number].create_collection(name, dimension=DIMENSION)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = {name for own in names for name in own}
    for client in clients:
        assert every <= set(client.list_collections())
    for name in every:
        clients[0].drop_collection(name)
    assert not [name for name in clients[1].list_collections() if name.startswith("at_once")]


def test_a_new_replica_has_every_acknowledged_row(lab: MilvusLab, one: MilvusClient, collection: str) -> None:
    """Rows of segments, rows that are only in the log, and deletions: all from etcd, store and log."""
    one.insert(collection, rows(*range(10)))
    one.flush(collection)
    assert lab.segments()
    one.insert(collection, rows(*range(10, 15)))
    one.delete(collection, ids=[2, 11])
    lab.replica("three", flush_seconds="3600")
    lab.await_replica("three")
    expected = [key for key in range(15) if key not in (2, 11)]
    assert keys(lab.client("three"), collection) == expected
    lab.end("three")
    assert keys(one, collection) == expected


def test_keys_that_the_engine_gives_are_the_same_everywhere(lab: MilvusLab, one: MilvusClient) -> None:
    """Also in a replica that made its rows anew, and does not see those of a partition that was dropped."""
    one.create_collection("given", dimension=DIMENSION, auto_id=True)
    vector = {"vector": [1.0] * DIMENSION}
    one.create_partition("given", "part")
    one.insert("given", [vector], partition_name="part")
    one.release_collection("given")
    one.drop_partition("given", "part")
    one.create_partition("given", "part")
    one.load_collection("given")
    first = one.insert("given", [vector, vector])
    second = lab.client("two").insert("given", [vector])
    given = sorted([*first["ids"], *second["ids"]])
    one.flush("given")
    lab.replica("three", flush_seconds="3600")
    lab.await_replica("three")
    for name in ("one", "two", "three"):
        assert keys(lab.client(name), "given") == given
    lab.end("three")
    one.drop_collection("given")


def test_a_partition_that_is_made_twice_is_there_once(lab: MilvusLab, one: MilvusClient, collection: str) -> None:
    """As in Milvus: a client whose answer was lost asks again, perhaps another replica."""
    one.create_partition(collection, "twice")
    lab.client("two").create_partition(collection, "twice")
    one.create_partition(collection, "twice")
    assert one.list_partitions(collection).count("twice") == 1
    one.insert(collection, rows(1), partition_name="twice")
    assert keys(lab.client("two"), collection) == [1]
    one.release_collection(collection)
    one.drop_partition(collection, "twice")
    assert "twice" not in lab.client("two").list_partitions(collection)


def test_rows_of_a_dropped_partition_do_not_come_back(lab: MilvusLab, one: MilvusClient, collection: str) -> None:
    """A partition of the same name, made after that, is empty, also in a replica that made its rows anew."""
    one.create_partition(collection, "part")
    one.insert(collection, rows(1, 2), partition_name="part")
    one.flush(collection)
    one.release_collection(collection)
    one.drop_partition(collection, "part")
    one.create_partition(collection, "part")
    one.load_collection(collection)
    one.insert(collection, rows(3), partition_name="part")
    one.flush(collection)
    lab.replica("three", flush_seconds="3600")
    lab.await_replica("three")
    for name in ("one", "three"):
        assert keys(lab.client(name), collection) == [3]
    lab.end("three")


def test_what_was_written_by_an_alias_belongs_to_the_collection(lab: MilvusLab, one: MilvusClient) -> None:
    """Also after the alias is another's: in segments, partitions and indexes of a replica that made all anew."""
    for name in ("first", "second"):
        one.create_collection(name, dimension=DIMENSION, metric_type="L2")
    one.create_alias("first", "called")
    one.insert("called", rows(1, 2, 3))
    one.create_partition("called", "part")
    one.insert("called", rows(4), partition_name="part")
    one.upsert("called", [{"id": 1, "vector": [0.5] * DIMENSION, "parity": 9}])
    one.delete("called", ids=[2])
    one.flush("first")
    one.alter_alias("second", "called")
    one.insert("called", rows(8))
    one.flush("first")
    lab.replica("three", flush_seconds="3600")
    lab.await_replica("three")
    for name in ("one", "two", "three"):
        client = lab.client(name)
        assert (keys(client, "first"), keys(client, "second")) == ([1, 3, 4], [8])
        assert client.get("first", ids=[1])[0]["parity"] == 9
        assert client.has_partition("first", "part")
    lab.end("three")
    one.drop_alias("called")
    for name in ("first", "second"):
        one.drop_collection(name)


def test_indexes_and_load_state_are_the_same_everywhere(lab: MilvusLab, one: MilvusClient, collection: str) -> None:
    """An index may be dropped by another replica than the one that released; one that cannot be built is refused."""
    two = lab.client("two")
    one.insert(collection, rows(1, 2))
    one.release_collection(collection)
    for client in (one, two):
        with pytest.raises(MilvusException, match="load"):
            client.search(collection, data=[[1.0] * DIMENSION], limit=1)
    with pytest.raises(MilvusException, match="no index 'other'"):
        two.drop_index(collection, "other")
    (name,) = two.list_indexes(collection)
    two.drop_index(collection, name)
    wanted = one.prepare_index_params()
    wanted.add_index("vector", index_type="DISKANN", metric_type="L2")
    with pytest.raises(MilvusException, match="DISKANN"):
        one.create_index(collection, wanted)
    wanted = one.prepare_index_params()
    wanted.add_index("vector", index_type="HNSW", metric_type="L2", params={"M": 8, "efConstruction": 64})
    one.create_index(collection, wanted)
    two.load_collection(collection)
    one.load_collection(collection)
    for client in (one, two):
        assert client.describe_index(collection, client.list_indexes(collection)[0])["index_type"] == "HNSW"
        (hits,) = client.search(collection, data=[[1.9] * DIMENSION], limit=1)
        assert [hit["id"] for hit in hits] == [2]


def test_an_insert_of_megabytes_is_taken(one: MilvusClient, collection: str) -> None:
    """More than Kafka takes in one message by default."""
    one.insert(collection, [{"id": key, "vector": [0.1] * DIMENSION, "text": "x" * 500} for key in range(4000)])
    assert len(keys(one, collection)) == 4000


def test_a_damaged_segment_is_noticed_and_harms_no_other_collection(
    lab: MilvusLab, one: MilvusClient, collection: str
) -> None:
    """A replica that could not load a segment refuses its collection, and says why."""
    one.insert(collection, rows(1, 2, 3))
    one.flush(collection)
    before = set(lab.segments())
    one.create_collection("harmed", dimension=DIMENSION)
    one.insert("harmed", rows(*range(50)))
    one.flush("harmed")
    (damaged,) = set(lab.segments()) - before
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 0xFF
    damaged.write_bytes(data)
    lab.replica("three", flush_seconds="3600")
    eventually("three to be up", lambda: "serves on port" in lab.log("three"))
    three = lab.client("three")
    assert keys(three, collection) == [1, 2, 3]
    with pytest.raises(MilvusException, match="cannot be read"):
        keys(three, "harmed")
    # it searches in one collection after the other
    eventually("the health page to say so", lambda: "cannot be read" in str(lab.health("three")))
    lab.end("three")
    one.drop_collection("harmed")


def test_a_change_whose_replica_ended_is_carried_out_by_another(
    lab: MilvusLab, one: MilvusClient, collection: str
) -> None:
    """What is in etcd and was not marked in the log is marked by whoever notices."""
    metadata = Metadata(Etcd([f"127.0.0.1:{lab.ports['etcd']}"]), "by-dev")
    seen = metadata.read()
    request = milvus_pb2.CreateAliasRequest(collection_name=collection, alias="left_behind")
    assert metadata.change(seen, *change_of("CreateAlias", request, seen))
    assert "left_behind" in one.list_aliases(collection)["aliases"]
    # it is known at once, and searched by once it has its place in the log
    eventually("a read by the alias", lambda: answers(one, "left_behind"))
    one.drop_alias("left_behind")


def test_metadata_lies_under_the_keys_of_milvus(lab: MilvusLab, one: MilvusClient, collection: str) -> None:
    """Collection, index, load, segment and checkpoint are where Milvus has them."""
    one.insert(collection, rows(1))
    one.flush(collection)
    one.insert(collection, rows(2))
    one.insert(collection, rows(3))
    one.flush(collection)
    _, pairs = Etcd([f"127.0.0.1:{lab.ports['etcd']}"]).pairs("by-dev/")
    found = {pair.key for pair in pairs}
    number = max(int(key.rpartition("/")[2]) for key in found if "/collection-info/" in key)
    assert f"by-dev/meta/root-coord/database/collection-info/1/{number}" in found
    assert f"by-dev/meta/querycoord-collection-loadinfo/{number}" in found
    assert "by-dev/meta/datacoord-meta/channel-cp/by-dev-rootcoord-dml_0" in found
    assert [key for key in found if key.startswith(f"by-dev/meta/field-index/{number}/")]
    segments = [pair for pair in pairs if pair.key.startswith(f"by-dev/meta/datacoord-meta/s/{number}/")]
    assert sorted(json.loads(pair.value)["writes"] for pair in segments) == [1, 2]
    assert {path.relative_to(lab.folder / "store" / BUCKET).parts[:2] for path in lab.segments()} == {
        ("files", "insert_log")
    }


def test_what_the_log_did_not_take_is_not_acknowledged(lab: MilvusLab, one: MilvusClient, collection: str) -> None:
    """With the broker frozen, a write fails and the health page says that the replica does not serve."""
    one.insert(collection, rows(1))
    lab.processes["kafka"].send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(MilvusException, match="log"):
            one.insert(collection, rows(2))
        assert lab.health("one") is not None
    finally:
        lab.processes["kafka"].send_signal(signal.SIGCONT)
    eventually("the replica to serve", lambda: lab.health("one") is None)
    assert 1 in keys(one, collection)


def test_metadata_is_read_while_the_log_has_no_leader(lab: MilvusLab, one: MilvusClient, collection: str) -> None:
    """With the broker frozen, both replicas tell what etcd holds."""
    one.create_partition(collection, "of_before")
    lab.processes["kafka"].send_signal(signal.SIGSTOP)
    try:
        for client in (one, lab.client("two")):
            begin = time.monotonic()
            assert client.describe_collection(collection)["collection_name"] == collection
            assert "of_before" in client.list_partitions(collection)
            assert not client.has_partition(collection, "of_never")
            assert time.monotonic() - begin < 2
    finally:
        lab.processes["kafka"].send_signal(signal.SIGCONT)
    eventually("the replica to serve", lambda: lab.health("one") is None)


def test_a_replica_without_its_session_ends(lab: MilvusLab) -> None:
    """As Milvus does: etcd gone for longer than the session lasts ends the replica; with etcd back it begins anew."""
    lab.replica("three", session_ttl_seconds="2")
    lab.await_replica("three")
    lab.end("etcd")
    try:
        assert lab.processes.pop("three").wait(timeout=30) == 1
        assert "session" in lab.log("three")
    finally:
        lab.begin_etcd()
    lab.replica("three", session_ttl_seconds="2")
    lab.await_replica("three")
    assert lab.end("three", signal.SIGTERM) == 0


def test_wrong_settings_are_one_sentence(tmp_path: Path) -> None:
    """The exit code is 64, and nothing is touched."""
    lab = MilvusLab(tmp_path, ports={"etcd": 1, "kafka": 1, "store": 1})
    lab.replica("one", flush_seconds="soon")
    assert lab.processes["one"].wait(timeout=30) == 64
    assert lab.log("one") == "milvus: MILVUS_FLUSH_SECONDS is 'soon'; it is a whole number from 1 to 3600\n"
