"""What each request that changes metadata puts into etcd, and what it deletes there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milvus_lite.adapter.grpc.translators.index import kv_pairs_to_index_params_dict
from pymilvus.grpc_gen import milvus_pb2 as pb

from lakehouse.milvus import metadata as meta
from lakehouse.milvus.metadata import Entry, Snapshot, thing

Puts = dict[str, dict[str, Any]]
Change = tuple[Puts, list[str]]

# Of the database `default`, which is always there.
_DEFAULT = 1
# Those that the engine can build; others it would refuse only where there are rows, in one replica and not in the next.
_INDEX_TYPES = (
    "AUTOINDEX", "FLAT", "BRUTE_FORCE", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8", "SPARSE_INVERTED_INDEX", "INVERTED",
)  # fmt: skip


class Refused(ValueError):
    """A change that is not made, in words for the client."""


def change_of(method: str, request: Any, seen: Snapshot) -> Change:  # noqa: ANN401 - any request of the service
    """Return what a request of one of CHANGING puts and deletes, given the metadata before it.

    Raises Refused where that has no collection to change.
    """
    return CHANGING[method](request, seen)


def is_made(method: str, request: Any, seen: Snapshot) -> bool:  # noqa: ANN401
    """Tell whether a partition that shall be made is there: for Milvus that is a success.

    A client whose answer was lost asks for it again (pymilvus does so by itself). Source: Milvus's
    internal/rootcoord/create_partition_task.go, which ignores a partition that would be made twice.
    """
    if method != "CreatePartition" or (number := seen.collection(request.db_name, request.collection_name)) is None:
        return False
    return seen.partition(number, request.partition_name) is not None


def prepared(method: str, request: Any, seen: Snapshot) -> Any:  # noqa: ANN401
    """Return a request by the collection's own name, and by the field of an index; raises Refused for what is amiss.

    An alias may be another's tomorrow, and the engine knows indexes by their fields.
    """
    made = type(request)()
    made.CopyFrom(request)
    if method not in ("CreateCollection", "CreateDatabase", "DropDatabase", "DropAlias"):
        made.collection_name = seen.name(made.db_name, made.collection_name)
    if method == "CreateIndex":
        index_type = str(kv_pairs_to_index_params_dict(made.extra_params)["index_type"]).upper()
        if index_type not in _INDEX_TYPES:
            raise Refused(f"this stand-in for Milvus has no index {index_type!r}, only {', '.join(_INDEX_TYPES)}")
    if method == "DropIndex" and seen.collection(made.db_name, made.collection_name) is not None:
        matched = _indexes(made, seen)
        if not matched:
            raise Refused(f"there is no index {made.index_name or made.field_name!r}")
        if made.index_name or made.field_name:
            made.field_name = str(matched[0].value["field"])
    return made


def _create_database(request: Any, seen: Snapshot) -> Change:  # noqa: ANN401
    undo = pb.DropDatabaseRequest(db_name=request.db_name)
    value = _value("CreateDatabase", request, "DropDatabase", undo, id=seen.last + 1, name=request.db_name)
    return {f"{meta.DATABASES}{seen.last + 1}": value}, []


def _drop_database(request: Any, seen: Snapshot) -> Change:  # noqa: ANN401
    return {}, [one.key for one in seen.of_kind(meta.DATABASES) if one.value["name"] == request.db_name]


def _create_collection(request: Any, seen: Snapshot) -> Change:  # noqa: ANN401
    number, database = seen.last + 1, request.db_name or "default"
    undo = pb.DropCollectionRequest(db_name=request.db_name, collection_name=request.collection_name)
    known = {"id": number, "db": database, "name": request.collection_name}
    value = _value("CreateCollection", request, "DropCollection", undo, **known)
    return {f"{meta.COLLECTIONS}{_number_of_database(seen, database)}/{number}": value}, []


def _drop_collection(request: Any, seen: Snapshot) -> Change:  # noqa: ANN401
    number, database = _collection(request, seen), request.db_name or "default"
    aliases = [
        one.key
        for one in seen.of_kind(meta.ALIASES)
        if (one.value["db"], one.value["name"]) == (database, request.collection_name)
    ]
    below = [f"{prefix}{number}/" for prefix in (meta.PARTITIONS, meta.INDEXES, meta.SEGMENTS)]
    own = f"{meta.COLLECTIONS}{_number_of_database(seen, database)}/{number}"
    return {}, [own, f"{meta.LOADS}{number}", *below, *aliases]


def _create_partition(request: Any, seen: Snapshot) -> Change:  # noqa: ANN401
    names = {"db_name": request.db_name, "collection_name": request.collection_name}
    undo = pb.DropPartitionRequest(**names, partition_name=request.partition_name)
    value = _value("CreatePartition", request, "DropPartition", undo, name=request.partition_name)
    return {f"{meta.PARTITIONS}{_collection(request, seen)}/{seen.last + 1}": value}, []


def _drop_partition(request: Any, seen: Snapshot) -> Change:  # noqa: ANN401
    own = seen.of_kind(f"{meta.PARTITIONS}{_collection(request, seen)}/")
    return {}, [one.key for one in own if one.value["name"] == request.partition_name]


def _create_index(request: Any, seen: Snapshot) -> Change:  # noqa: ANN401
    names = {"db_name": request.db_name, "collection_name": request.collection_name}
    undo = pb.DropIndexRequest(**names, field_name=request.field_name, index_name=request.index_name)
    value = _value("CreateIndex", request, "DropIndex", undo, field=request.field_name, name=request.index_name)
    prefix = f"{meta.INDEXES}{_collection(request, seen)}/"
    # a field has one index: made once more, it takes the place of the first
    same = [one.key for one in seen.of_kind(prefix) if one.value["field"] == request.field_name]
    return {same[0] if same else f"{prefix}{seen.last + 1}": value}, []


def _drop_index(request: Any, seen: Snapshot) -> Change:  # noqa: ANN401
    return {}, [one.key for one in _indexes(request, seen)]


def _indexes(request: Any, seen: Snapshot) -> list[Entry]:  # noqa: ANN401
    """Return the indexes that a request names by their own name or their field, all where it names none."""
    own = seen.of_kind(f"{meta.INDEXES}{_collection(request, seen)}/")
    named = {request.field_name, request.index_name} - {""}
    return [one for one in own if not named or named & {one.value["field"], one.value["name"]}]


def _load(request: Any, seen: Snapshot) -> Change:  # noqa: ANN401
    names = {"db_name": request.db_name, "collection_name": request.collection_name}
    value = _value("LoadCollection", request, "ReleaseCollection", pb.ReleaseCollectionRequest(**names))
    key = f"{meta.LOADS}{_collection(request, seen)}"
    # put anew it would be released and loaded under those who search
    return {} if key in seen.entries else {key: value}, []


def _release(request: Any, seen: Snapshot) -> Change:  # noqa: ANN401
    return {}, [f"{meta.LOADS}{_collection(request, seen)}"]


def _alias(request: Any, seen: Snapshot) -> Change:  # noqa: ANN401
    database = request.db_name or "default"
    fields = {"db_name": request.db_name, "alias": request.alias}
    made = pb.CreateAliasRequest(**fields, collection_name=request.collection_name)
    known = {"db": database, "name": request.collection_name, "alias": request.alias}
    value = _value("CreateAlias", made, "DropAlias", pb.DropAliasRequest(**fields), **known)
    return {f"{meta.ALIASES}{_number_of_database(seen, database)}/{request.alias}": value}, []


def _drop_alias(request: Any, seen: Snapshot) -> Change:  # noqa: ANN401
    return {}, [f"{meta.ALIASES}{_number_of_database(seen, request.db_name or 'default')}/{request.alias}"]


CHANGING: dict[str, Callable[[Any, Snapshot], Change]] = {
    "CreateDatabase": _create_database,
    "DropDatabase": _drop_database,
    "CreateCollection": _create_collection,
    "DropCollection": _drop_collection,
    "CreatePartition": _create_partition,
    "DropPartition": _drop_partition,
    "CreateIndex": _create_index,
    "DropIndex": _drop_index,
    "LoadCollection": _load,
    "ReleaseCollection": _release,
    "CreateAlias": _alias,
    "AlterAlias": _alias,
    "DropAlias": _drop_alias,
}


def _collection(request: Any, seen: Snapshot) -> int:  # noqa: ANN401
    number = seen.collection(request.db_name, request.collection_name)
    if number is None:
        raise Refused(f"there is no collection {request.collection_name!r}")
    return number


def _number_of_database(seen: Snapshot, name: str) -> int:
    return next((int(one.value["id"]) for one in seen.of_kind(meta.DATABASES) if one.value["name"] == name), _DEFAULT)


def _value(method: str, request: Any, undo_method: str, undo: Any, **known: str | int) -> dict[str, Any]:  # noqa: ANN401
    return thing(method, request.SerializeToString(), undo_method, undo.SerializeToString(), **known)
