"""SQL over points: DuckDB with a table for each measurement, and nothing else within reach.

The tables are filled batch by batch. What does not fit into MEMORY is in temporary files of the
system, which are gone with the database; a query that is killed leaves nothing beside backups. A
statement can read no file and no address.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self

from resources.errors import UsageError
from resources.points.arrow import record_batch, require_pyarrow, schema_of
from resources.points.batches import Batch
from resources.points.strings import Strings
from resources.points.table import TIME, Table

if TYPE_CHECKING:
    import pyarrow as pa

MEMORY = "256MB"
ROWS = 10_000
_STREAM = "shardkeeper_batch"


class SQLRefused(UsageError):
    """The statement is wrong, or asks for something that is out of reach."""


class Database:
    """An empty database in memory; closed and gone when the block ends.

    Raises:
        UsageError: DuckDB is not installed.
    """

    def __init__(self) -> None:
        duckdb = _require_duckdb()
        self._error: type[Exception] = duckdb.Error
        self._files = tempfile.TemporaryDirectory(prefix="shardkeeper-query-")
        config = {"temp_directory": self._files.name, "memory_limit": MEMORY}
        self._connection: Any = duckdb.connect(":memory:", config=config)
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._files.cleanup()

    def fill(self, name: str, table: Table, batches: Iterable[Batch], strings: Strings) -> None:
        """Create a table with these rows; `time` has nanoseconds, in UTC.

        Raises:
            PointsNotText: `strings` is "str", and a value is no UTF-8.
        """
        pa = require_pyarrow()
        schema = schema_of(table, {}, strings)
        # DuckDB's type with a zone has microseconds only.
        naive = schema.set(0, pa.field(TIME, pa.timestamp("ns")))
        self._insert(pa.Table.from_batches([], naive), f"CREATE TABLE {_quoted(name)} AS")
        for batch in batches:
            made = record_batch(batch, table, schema, strings)
            columns = [made.column(0).cast(naive.types[0]), *made.columns[1:]]
            rows = pa.Table.from_batches([pa.RecordBatch.from_arrays(columns, schema=naive)])
            self._insert(rows, f"INSERT INTO {_quoted(name)}")

    def run(self, statement: str) -> pa.RecordBatchReader:
        """The rows of a statement; of several statements, those of the last.

        Raises:
            SQLRefused: DuckDB does not take it.
        """
        try:
            relation = self._connection.sql(statement)
            if relation is None:
                raise SQLRefused(
                    "the statement gives no rows", hint="write SELECT ... FROM measurement"
                )
            return relation.to_arrow_reader(ROWS)
        except self._error as error:
            raise _refused(error) from None

    def rows(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        """Take the batches of a result; raises as `run`."""
        pa = require_pyarrow()
        try:
            yield from reader
        except (self._error, pa.ArrowException) as error:
            raise _refused(error) from None

    def _insert(self, rows: pa.Table, into: str) -> None:
        self._connection.register(_STREAM, rows)
        try:
            self._connection.execute(f"{into} SELECT * FROM {_STREAM}")  # noqa: S608 (quoted)
        except self._error as error:
            raise _refused(error) from None
        finally:
            self._connection.unregister(_STREAM)


def is_named(measurement: str, statement: str) -> bool:
    """Whether a statement may be about a measurement: its name is in it as a word."""
    name = re.escape(measurement.replace('"', '""'))
    return re.search(rf"(?<!\w){name}(?!\w)", statement, re.IGNORECASE) is not None


def _refused(error: Exception) -> SQLRefused:
    lines = str(error).strip().splitlines()
    return SQLRefused(
        f"the statement failed: {lines[0] if lines else type(error).__name__}",
        hint="the tables are the measurements of -db; shardkeeper inspect lists them",
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _require_duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise UsageError(
            "SQL needs the package duckdb, which is not installed",
            hint="pip install 'shardkeeper[query]'",
        ) from None
    return duckdb
