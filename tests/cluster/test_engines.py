"""The engines as their users meet them: with the clients that they have, unmodified."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import duckdb_extension_tpch
import httpx
import prestodb.dbapi
import pyarrow as pa
import pytest
from kubernetes.client import CoreV1Api
from lab import Lakehouse, catalogue_of, run_in_pod

from gameday.regions import api_client
from gameday.waiting import wait_until
from lakehouse.deploy import endpoints

pytestmark = pytest.mark.cluster

TABLES = {"c": "customer", "l": "lineitem", "o": "orders"}
# Of TPC-H's own queries the first, the third and the sixth, with DuckDB's names of columns.
QUERIES = {
    "pricing summary": """
        SELECT l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice),
            sum(l_extendedprice * (1 - l_discount)), avg(l_quantity), count(*)
        FROM lineitem WHERE l_shipdate <= DATE '1998-09-02' GROUP BY 1, 2 ORDER BY 1, 2""",
    "shipping priority": """
        SELECT l_orderkey, sum(l_extendedprice * (1 - l_discount)) AS revenue, o_orderdate, o_shippriority
        FROM customer, orders, lineitem
        WHERE c_mktsegment = 'BUILDING' AND c_custkey = o_custkey AND l_orderkey = o_orderkey
            AND o_orderdate < DATE '1995-03-15' AND l_shipdate > DATE '1995-03-15'
        GROUP BY l_orderkey, o_orderdate, o_shippriority ORDER BY revenue DESC, o_orderdate LIMIT 10""",
    "forecasting revenue change": """
        SELECT sum(l_extendedprice * l_discount) FROM lineitem
        WHERE l_shipdate >= DATE '1994-01-01' AND l_shipdate < DATE '1995-01-01'
            AND l_discount BETWEEN 0.045 AND 0.075 AND l_quantity < 24""",
}
# As drivers and executors start it, but unwilling to do without the archive.
SPARKS_JAVA = """
import os
from pathlib import Path
from lakehouse.spark.entrypoint import executor_command
wanted = ["SPARK_EXECUTOR_MEMORY", "SPARK_DRIVER_URL", "SPARK_EXECUTOR_ID", "SPARK_EXECUTOR_CORES",
    "SPARK_APPLICATION_ID", "SPARK_EXECUTOR_POD_IP", "SPARK_RESOURCE_PROFILE_ID", "SPARK_EXECUTOR_POD_NAME"]
java, *words = executor_command({**os.environ, **dict.fromkeys(wanted, "64m")})
os.chdir(os.environ["SPARK_HOME"])
os.execv(java, [java, "-Xshare:on", *words[: words.index("-cp") + 2], "-version"])
"""


@pytest.fixture(scope="module")
def tpch() -> Iterator[duckdb.DuckDBPyConnection]:
    """Return DuckDB with the tables of TPC-H at the scale factor of Presto's schema `tiny`."""
    (extension,) = Path(duckdb_extension_tpch.__file__).parent.rglob("*.duckdb_extension")
    with duckdb.connect() as connection:
        connection.execute(f"LOAD '{extension}'")
        connection.execute("CALL dbgen(sf=0.01)")
        yield connection


def _ask_presto(lakehouse: Lakehouse, sql: str) -> list[list[Any]]:
    address = urlsplit(endpoints(lakehouse.region, lakehouse.engine)["presto"])
    connection = prestodb.dbapi.connect(
        host=address.hostname, port=address.port, user="test", catalog="tpch", schema="tiny"
    )
    cursor = connection.cursor()
    cursor.execute(sql)
    rows: list[list[Any]] = cursor.fetchall()
    return rows


@pytest.mark.needs("presto")
@pytest.mark.parametrize("name", QUERIES)
def test_presto_answers_its_own_client_as_duckdb_answers(
    lakehouse: Lakehouse, tpch: duckdb.DuckDBPyConnection, name: str
) -> None:
    """The unmodified presto-python-client gets the rows that DuckDB computes from the same data."""
    # Presto's connector has the columns without their prefix
    sql = re.sub(r"\b([loc])_(\w+)", lambda match: f"{TABLES[match[1]]}.{match[2]}", QUERIES[name])
    found = _ask_presto(lakehouse, sql)
    expected = tpch.execute(QUERIES[name]).fetchall()
    assert len(found) == len(expected) > 0
    for own, other in zip(found, expected, strict=True):
        for one, two in zip(own, other, strict=True):
            if isinstance(one, float):
                # Presto computes with doubles, DuckDB with decimals
                assert one == pytest.approx(float(two), rel=1e-9)
            else:
                assert str(one) == str(two)


@pytest.mark.needs("presto", "spark")
def test_java_starts_from_archives_of_classes(lakehouse: Lakehouse) -> None:
    """Servers of Presto have theirs in memory, and Spark takes its own: a start costs half as much more without."""
    api = CoreV1Api(api_client(lakehouse.region.kubeconfig))
    for name in ("presto-coordinator", "presto-worker"):
        assert "/classes.jsa" in run_in_pod(api, name, "cat", "/proc/1/maps")
    assert "Server VM" in run_in_pod(api, "spark-submission", "python3", "-c", SPARKS_JAVA)


@pytest.mark.needs("mds", "spark")
def test_python_starts_from_byte_code(lakehouse: Lakehouse) -> None:
    """The packages of MDS and of Spark's service are compiled: a pod could not keep what it compiles itself."""
    api = CoreV1Api(api_client(lakehouse.region.kubeconfig))
    for name in ("mds", "spark-submission"):
        said = run_in_pod(api, name, "python3", "-v", "-c", "import pyiceberg.table")
        assert "pyiceberg/table/__pycache__/__init__.cpython-311.pyc matches" in said
        assert not re.search(r"code object from '[^']*pyiceberg[^']*\.py'", said)


@pytest.mark.needs("mds", "spark")
def test_pyspark_reads_through_mds_what_pyiceberg_wrote(lakehouse: Lakehouse) -> None:
    """A PySpark program on the cluster counts and sums a table that another client wrote through the catalogue."""
    catalogue = catalogue_of(lakehouse)
    namespace = f"client_{uuid.uuid4().hex[:8]}"
    catalogue.create_namespace(namespace)
    rows = pa.table({"id": pa.array(range(1000), pa.int64()), "name": [f"row {number}" for number in range(1000)]})
    catalogue.create_table(f"{namespace}.rows", rows.schema).append(rows)
    name = f"read-{uuid.uuid4().hex[:8]}"
    job = {
        "name": name,
        "application": "read-table",
        "arguments": {"table": f"{namespace}.rows", "column": "id"},
        "executors": 1,
    }
    url = endpoints(lakehouse.region, lakehouse.engine)["spark"]
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        assert client.post("/v1/jobs", json=job).status_code == httpx.codes.CREATED

        def look() -> str | None:
            state = client.get(f"/v1/jobs/{name}").json()
            assert state["state"] != "failed", state
            return None if state["state"] == "succeeded" and state["result"] else str(state["state"])

        wait_until(f"the job {name} to succeed", look, deadline_s=120)
        result = client.get(f"/v1/jobs/{name}").json()["result"]
        client.delete(f"/v1/jobs/{name}")
    assert (result["rows"], result["sum"]) == (1000, sum(range(1000)))
