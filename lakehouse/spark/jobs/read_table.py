"""Job `read-table`: counts the rows of an Iceberg table and sums a column, through the catalogue that MDS serves."""

from __future__ import annotations

import json
import sys
from typing import Any

from lakehouse.spark.jobs import result

CATALOGUE = "lake"


def quoted(name: str) -> str:
    """Return a table's name, parts joined by dots, as Spark SQL reads it whatever characters the parts have."""
    return ".".join(f"`{part.replace('`', '``')}`" for part in name.split("."))


def run(spark: Any, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - PySpark is in the image alone
    """Read the table once; without a column only rows are counted."""
    column = arguments.get("column")
    # a decimal holds any sum of integers
    total = f"cast(sum(cast({quoted(column)} AS decimal(38, 0))) AS string)" if column else "null"
    table = f"{CATALOGUE}.{quoted(arguments['table'])}"
    row = spark.sql(f"SELECT count(*) AS rows, {total} AS total FROM {table}").collect()[0]  # noqa: S608 - quoted
    total_read = int(row["total"]) if row["total"] is not None else None
    return {"table": arguments["table"], "column": column, "rows": row["rows"], "sum": total_read}


def main(output: str, arguments: dict[str, Any]) -> None:
    """Run the job in the driver's Spark session and keep its result."""
    from pyspark.sql import SparkSession  # type: ignore[import-not-found]  # noqa: PLC0415 - in the image alone

    spark = SparkSession.builder.getOrCreate()
    found = run(spark, arguments)
    result.write(spark, output, {**found, "failed_tasks": result.failed_tasks(spark.sparkContext)})
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
