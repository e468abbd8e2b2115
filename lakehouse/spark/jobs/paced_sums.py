"""Job `paced-sums`: exact sums over generated numbers, in rounds of a map stage and a shuffle, by tasks that wait.

Each task pauses once, as if its input were slow: the job runs as long as it is told to, on little CPU. Its result
depends on rows, rounds and seed alone, whatever was lost and repeated on the way.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from typing import Any

from lakehouse.spark.jobs import result

# Of the shuffle: more than executors, so that each holds some, and few, as each is a task
BUCKETS = 4
_PRIME = 2_147_483_647


def mixed(number: int, seed: int, turn: int) -> int:
    """Return the value of a row, as `_MIXED` says it in SQL; no product of it leaves 64 bits."""
    spread = (number * 48_271 + seed * 16_807 + turn * 69_621) % _PRIME
    return spread * spread % _PRIME


_SPREAD = f"(id * 48271L + {{seed}}L * 16807L + {{turn}}L * 69621L) % {_PRIME}L"
_MIXED = f"spread * spread % {_PRIME}L"
# The first row of each partition has 0 in these bits. Whatever the method returns is no empty text, so the sum below
# adds nothing for it; but a column that nothing asked for would be left out, and nobody would wait.
_PAUSED = (
    "CASE WHEN monotonically_increasing_id() & 8589934591L = 0L"
    " THEN java_method('java.lang.Thread', 'sleep', {pause_ms}L) = '' END"
)
_TOTAL = "sum(value + if(paused, 1L, 0L))"


def fold(sums: Iterable[tuple[int, int]], digest: str) -> tuple[int, str]:
    """Return the total of one round's buckets, and the digest of all rounds so far."""
    ordered = sorted(sums)
    text = digest + "".join(f"{bucket}:{total};" for bucket, total in ordered)
    return sum(total for _, total in ordered), hashlib.sha256(text.encode()).hexdigest()[:16]


def expected(rows: int, rounds: int, seed: int) -> dict[str, Any]:
    """Return the result that the job has to come to, without Spark; about a second for a million rows."""
    total, digest = 0, ""
    for turn in range(rounds):
        sums: dict[int, int] = {}
        for number in range(rows):
            value = mixed(number, seed, turn)
            sums[value % BUCKETS] = sums.get(value % BUCKETS, 0) + value
        part, digest = fold(sums.items(), digest)
        total += part
    return {"sum": total, "rounds": rounds, "rows": rows, "digest": digest}


def run(spark: Any, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - PySpark is in the image alone
    """Run all rounds and return the result."""
    from pyspark.sql.functions import expr  # type: ignore[import-not-found]  # noqa: PLC0415 - in the image alone

    rows, partitions, rounds = arguments["rows"], arguments["partitions"], arguments["rounds"]
    pause_ms = round(arguments["pace_s"] * 1000)
    paused = _PAUSED.format(pause_ms=pause_ms) if pause_ms else "false"
    total, digest = 0, ""
    for turn in range(rounds):
        spark.sparkContext.setJobDescription(f"round {turn + 1} of {rounds}")
        spread = _SPREAD.format(seed=arguments["seed"], turn=turn)
        numbers = spark.range(0, rows, 1, partitions).selectExpr(f"{spread} AS spread", f"{paused} AS paused")
        values = numbers.selectExpr(f"{_MIXED} AS value", "paused").selectExpr("*", f"value % {BUCKETS} AS bucket")
        found = values.groupBy("bucket").agg(expr(_TOTAL).alias("total")).collect()
        part, digest = fold(((row["bucket"], row["total"]) for row in found), digest)
        total += part
    return {"sum": total, "rounds": rounds, "rows": rows, "digest": digest}


def main(output: str, arguments: dict[str, Any]) -> None:
    """Run the job in the driver's Spark session and keep its result."""
    from pyspark.sql import SparkSession  # type: ignore[import-not-found]  # noqa: PLC0415 - in the image alone

    # adaptive execution would merge the shuffle's few partitions into one task
    settings = {"spark.sql.adaptive.enabled": "false", "spark.sql.shuffle.partitions": str(BUCKETS)}
    spark = SparkSession.builder.config(map=settings).getOrCreate()
    found = run(spark, arguments)
    result.write(spark, output, {**found, "failed_tasks": result.failed_tasks(spark.sparkContext)})
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
