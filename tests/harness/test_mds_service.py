"""MDS as the unmodified pyiceberg client sees it: real Postgres, a real process, files in a local folder."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from mds_lab import Replica, running_database, running_replica, settings
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NamespaceNotEmptyError,
    NoSuchNamespaceError,
    NoSuchTableError,
    RESTError,
    TableAlreadyExistsError,
)
from pyiceberg.table.update import AssertRefSnapshotId, SetPropertiesUpdate

ROWS = pa.table({"id": pa.array([1, 2, 3]), "name": ["a", "b", "c"]})


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """A ready replica on a database of its own."""
    folder = tmp_path_factory.mktemp("mds")
    with running_database() as database:
        environment = settings(database.create("mds"), folder / "warehouse")
        with running_replica(environment, folder / "mds.log") as replica:
            yield replica


@pytest.fixture
def client(replica: Replica) -> RestCatalog:
    """The unmodified client."""
    return RestCatalog("mds", uri=replica.url)


@pytest.fixture
def namespace(client: RestCatalog) -> str:
    """A new namespace."""
    name = f"n{uuid.uuid4().hex}"
    client.create_namespace(name, {"owner": "tests"})
    return name


def error_of(answer: httpx.Response) -> tuple[int, str]:
    """Return status and type of an error that has the form of the specification."""
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "code"}
    assert error["code"] == answer.status_code
    assert "Traceback" not in answer.text
    return answer.status_code, error["type"]


def test_a_table_lives_from_its_creation_to_its_drop(client: RestCatalog, namespace: str) -> None:
    """Rows appended are read back; a renamed table has them under its new name; a dropped one is gone."""
    table = client.create_table(f"{namespace}.events", ROWS.schema)
    table.append(ROWS)
    table.append(ROWS)

    assert client.load_table(f"{namespace}.events").scan().to_arrow().num_rows == 6
    assert client.list_tables(namespace) == [(namespace, "events")]
    client.rename_table(f"{namespace}.events", f"{namespace}.facts")
    assert not client.table_exists(f"{namespace}.events")
    assert len(client.load_table(f"{namespace}.facts").metadata.snapshots) == 2
    client.drop_table(f"{namespace}.facts")
    assert client.list_tables(namespace) == []
    client.drop_namespace(namespace)
    assert not client.namespace_exists(namespace)


def test_namespaces_hold_properties_and_namespaces(client: RestCatalog, namespace: str) -> None:
    """Properties are set, changed and removed; a namespace below another is listed below it and not at the top."""
    client.update_namespace_properties(namespace, removals={"owner"}, updates={"tier": "gold"})
    assert client.load_namespace_properties(namespace) == {"tier": "gold"}
    client.create_namespace((namespace, "inner"))
    assert client.list_namespaces(namespace) == [(namespace, "inner")]
    assert (namespace,) in client.list_namespaces()
    assert client.namespace_exists((namespace, "inner"))


def test_a_staged_table_exists_only_once_committed(client: RestCatalog, namespace: str) -> None:
    """A table that is created in a transaction is not there before the transaction's commit, and whole after it."""
    with client.create_table_transaction(f"{namespace}.staged", ROWS.schema) as transaction:
        assert not client.table_exists(f"{namespace}.staged")
        transaction.append(ROWS)
    assert client.load_table(f"{namespace}.staged").scan().to_arrow().num_rows == 3
    with pytest.raises(TableAlreadyExistsError):
        client.create_table_transaction(f"{namespace}.staged", ROWS.schema)


def test_a_stale_commit_is_refused(client: RestCatalog, namespace: str) -> None:
    """A commit that builds on a snapshot which is no longer the latest fails, and changes nothing."""
    table = client.create_table(f"{namespace}.t", ROWS.schema)
    table.append(ROWS)
    stale = AssertRefSnapshotId.model_validate({"ref": "main", "snapshot-id": None})
    with pytest.raises(CommitFailedException):
        client.commit_table(table, (stale,), (SetPropertiesUpdate(updates={"lost": "yes"}),))
    assert "lost" not in client.load_table(f"{namespace}.t").properties


def test_of_commits_at_the_same_time_none_that_was_acknowledged_is_lost(client: RestCatalog, namespace: str) -> None:
    """Eight clients commit at once: what each was told is true, whether it was acknowledged or refused."""
    table = client.create_table(f"{namespace}.t", ROWS.schema)

    def commit(number: int) -> bool:
        try:
            client.commit_table(table, (), (SetPropertiesUpdate(updates={f"key-{number}": "yes"}),))
        except CommitFailedException:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        acknowledged = {f"key-{number}" for number, done in enumerate(threads.map(commit, range(8))) if done}

    assert acknowledged
    assert set(client.load_table(f"{namespace}.t").properties) & {f"key-{n}" for n in range(8)} == acknowledged


def test_errors_become_the_exceptions_of_the_client(client: RestCatalog, namespace: str) -> None:
    """What is missing, already there, or not empty reaches the client as pyiceberg's own exception for it."""
    table = client.create_table(f"{namespace}.t", ROWS.schema)
    with pytest.raises(NamespaceAlreadyExistsError):
        client.create_namespace(namespace)
    with pytest.raises(TableAlreadyExistsError):
        client.create_table(f"{namespace}.t", ROWS.schema)
    with pytest.raises(NamespaceNotEmptyError):
        client.drop_namespace(namespace)
    with pytest.raises(NoSuchNamespaceError):
        client.list_tables("nowhere")
    client.drop_table(f"{namespace}.t")
    with pytest.raises(NoSuchTableError):
        client.load_table(f"{namespace}.t")
    # the client has no exception of its own for a commit to a table that is gone
    with pytest.raises(RESTError, match="NoSuchTableException"):
        table.transaction().set_properties({"a": "b"}).commit_transaction()


def test_bad_requests_are_answered_as_the_specification_has_it(replica: Replica, namespace: str) -> None:
    """What is no JSON, lacks a field, contradicts itself, or is not there: each has its error."""
    with httpx.Client(base_url=replica.url, trust_env=False) as http:
        tables = f"/v1/namespaces/{namespace}/tables"
        assert error_of(http.post("/v1/namespaces", content="{")) == (400, "BadRequestException")
        assert error_of(http.post(tables, json={"name": "t"})) == (400, "BadRequestException")
        both = {"removals": ["a"], "updates": {"a": "b"}}
        properties = f"/v1/namespaces/{namespace}/properties"
        assert error_of(http.post(properties, json=both)) == (422, "UnprocessableEntityException")
        assert error_of(http.get("/v1/views")) == (404, "NoSuchEndpointException")
        assert error_of(http.delete("/v1/config")) == (405, "NoSuchEndpointException")
        assert error_of(http.get(f"{tables}/none")) == (404, "NoSuchTableException")


def test_every_answer_names_its_replica(replica: Replica) -> None:
    """Answers, errors and health all carry the name of the replica."""
    for path in ("/v1/config", "/v1/namespaces", "/v1/nowhere", "/livez", "/readyz"):
        assert replica.get(path).headers["X-MDS-Replica"] == "mds-0"


def test_a_table_whose_file_is_gone_is_no_error_of_the_client(
    client: RestCatalog, replica: Replica, namespace: str
) -> None:
    """Where a table's metadata file is lost, MDS says 500: neither "no such table", nor "try again"."""
    table = client.create_table(f"{namespace}.t", ROWS.schema)
    Path(table.metadata_location.removeprefix("file://")).unlink()
    assert error_of(replica.get(f"/v1/namespaces/{namespace}/tables/t")) == (500, "InternalServerError")
