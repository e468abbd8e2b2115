"""All rows of a database at one point of its log: read where they are live, and where they were restored.

Nobody is locked out. A snapshot of each database is taken, then a restore point is written into the log, then it is
asked which transactions have ended by then. If those are the ones that the snapshots see, nothing was committed in
between, and the restore point is where the snapshots are; else it is tried again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql

from gameday.errors import HarnessError
from lakehouse.provider import CONSOLE, DATABASE

DATABASES = (DATABASE, CONSOLE)
# Each takes some two milliseconds, in which somebody may commit.
_ATTEMPTS = 200
_PAUSE_S = 0.005

_SNAPSHOT = "SELECT pg_current_snapshot()::text"
_TABLES = """\
SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'm') AND relpersistence = 'p' AND nspname !~ '^pg_' AND nspname <> 'information_schema'
ORDER BY 1, 2
"""

type Connect = Callable[[str], psycopg.Connection]
type Connections = Mapping[str, psycopg.Connection]


@dataclass(frozen=True)
class Point:
    """A restore point of the log, the segment that it is in, and connections that see what was there then."""

    name: str
    segment: str
    connections: Connections


@dataclass(frozen=True)
class Comparison:
    """How many rows of how many tables are live, and what is not the same where they were restored."""

    rows: int
    tables: int
    problems: tuple[str, ...]


@contextmanager
def point_of(connect: Connect) -> Iterator[Point]:
    """Write a restore point, and hold what is to be read at it; raises HarnessError where that is not to be had."""
    with ExitStack() as stack:
        writer = stack.enter_context(connect(DATABASE))
        readers = {name: stack.enter_context(connect(name)) for name in DATABASES}
        name = f"compared-{uuid4().hex[:12]}"
        for attempt in range(_ATTEMPTS):
            point = f"{name}-{attempt}"
            seen = {_begun(reader) for reader in readers.values()}
            position = _one(writer, "SELECT pg_create_restore_point(%s)", point)
            after = str(_one(writer, _SNAPSHOT))
            oldest, next_one, *_ = after.split(":")
            # nobody may be in between: a commit is in the log a moment before others see it
            if seen == {after} and oldest == next_one:
                segment = _one(writer, "SELECT pg_walfile_name(%s)", position)
                # what is in the segment is archived when it is at its end
                _one(writer, "SELECT pg_switch_wal()")
                yield Point(point, segment, readers)
                return
            for reader in readers.values():
                reader.execute("ROLLBACK")
            time.sleep(_PAUSE_S)
        raise HarnessError(f"the database was never still for two milliseconds in {_ATTEMPTS} attempts")


@contextmanager
def connections(connect: Connect) -> Iterator[Connections]:
    """Connect to every database."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(connect(name)) for name in DATABASES}


def compared(live: Connections, restored: Connections) -> Comparison:
    """Compare all rows of all tables, whatever their order."""
    rows, tables, problems = 0, 0, []
    for database in DATABASES:
        wanted, found = _tables(live[database]), _tables(restored[database])
        tables += len(wanted)
        for schema, table in sorted({*wanted, *found}):
            name = f"{database}.{schema}.{table}"
            if (schema, table) not in found:
                problems.append(f"{name}: the table is missing")
            elif (schema, table) not in wanted:
                problems.append(f"{name}: the table is restored, but is not live")
            else:
                count, digest = _digest(live[database], schema, table)
                rows += count
                if _digest(restored[database], schema, table) != (count, digest):
                    problems.append(f"{name}: {_difference(live[database], restored[database], schema, table)}")
    if not tables:
        problems.append("no database has a table: there is nothing to compare")
    return Comparison(rows, tables, tuple(problems))


def _difference(live: psycopg.Connection, restored: psycopg.Connection, schema: str, table: str) -> str:
    wanted, found = _hashes(live, schema, table), _hashes(restored, schema, table)
    lost, odd = (wanted - found).total(), (found - wanted).total()
    return (
        f"{found.total()} rows are restored and {wanted.total()} are live: "
        f"{lost} are missing or changed, {odd} are not live"
    )


def _tables(connection: psycopg.Connection) -> list[tuple[str, str]]:
    return [(schema, table) for schema, table in connection.execute(_TABLES)]


def _digest(connection: psycopg.Connection, schema: str, table: str) -> tuple[int, int]:
    """Return the number of rows, and the sum of their hashes, which is the same in any order."""
    query = sql.SQL("SELECT count(*), coalesce(sum(hashtextextended(it::text, 0)), 0) FROM {} AS it")
    (row,) = connection.execute(query.format(sql.Identifier(schema, table))).fetchall()
    return int(row[0]), int(row[1])


def _hashes(connection: psycopg.Connection, schema: str, table: str) -> Counter[int]:
    query = sql.SQL("SELECT hashtextextended(it::text, 0) FROM {} AS it").format(sql.Identifier(schema, table))
    return Counter(int(value) for (value,) in connection.execute(query))


def _begun(reader: psycopg.Connection) -> str:
    """Begin to read at one moment, and return which transactions have ended by then."""
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    return _one(reader, _SNAPSHOT)


def _one(connection: psycopg.Connection, query: str, *values: Any) -> str:  # noqa: ANN401 - whatever SQL takes
    (row,) = connection.execute(query, values).fetchall()
    return str(row[0])
