"""Answers statements that read, and computes what statements write or delete.

    for statement in parse(text):
        if is_question(statement):
            rows = answer(statement, catalog, database, policy, now_ns)

SELECT INTO is answered like its SELECT; `points_into` makes points of the rows, the node writes
them, and `results.written` is the reply. For DELETE, DROP SERIES and DROP MEASUREMENT `deletion`
returns the deletion for every shard.

Source: influxdb coordinator/statement_executor.go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeGuard, get_args

from msgspec import Struct

from resources.embedded.influxql import conditions, data
from resources.embedded.influxql.catalog import Catalog
from resources.embedded.influxql.results import Cell, Rows, Unsigned
from resources.embedded.influxql.selecting import select_rows
from resources.embedded.influxql.shows import show_rows
from resources.embedded.influxql.statements import (
    Delete,
    DropMeasurement,
    DropSeries,
    Question,
    Select,
    Source,
    Statement,
)
from resources.embedded.server_errors import StatementFailed
from resources.embedded.shards.points import Field, Point, made_point
from resources.errors import TSMError
from resources.model import ShardID
from resources.tsm.keys import series_key
from resources.tsm.layout import BlockType, split_key
from resources.tsm.tombstone import MAX_TIME_NS, MIN_TIME_NS


class Deletion(Struct, frozen=True):
    """A deletion from shards; the arguments of `ShardStore.delete`."""

    shards: tuple[ShardID, ...]
    wanted: Callable[[bytes], bool]
    """A filter of TSM keys."""
    min_time_ns: int
    max_time_ns: int


def is_question(statement: Statement) -> TypeGuard[Question]:
    """Whether `answer` accepts the statement; other statements change something."""
    return isinstance(statement, get_args(Question))


def answer(
    question: Question, catalog: Catalog, database: str, policy: str, now_ns: int
) -> list[Rows]:
    """Answer a statement that reads.

    Args:
        question: a statement that `is_question` accepts.
        catalog: the source of metastore and points.
        database: the request's database, or "".
        policy: the request's policy, or "".
        now_ns: the value of now().

    Raises:
        StatementFailed: the statement's error, in the server's words.
    """
    if isinstance(question, Select):
        if question.into is not None:
            target = data.found_database(catalog, question.into.database or database)
            data.found_policy(target, question.into.policy)
        return select_rows(question, catalog, database, policy, now_ns)
    return show_rows(question, catalog, database, now_ns)


def points_into(into: Source, rows: Sequence[Rows]) -> list[Point]:
    """The points that SELECT INTO writes: tags from GROUP BY, the other columns as fields.

    Raises:
        StatementFailed: a name cannot be written.
    """
    found: list[Point] = []
    for series in rows:
        name = into.measurement if isinstance(into.measurement, str) else ""
        tags = {tag: value for tag, value in series.tags.items() if value}
        try:
            key = series_key(name or series.name, tags)
        except TSMError as error:
            raise StatementFailed(str(error)) from None
        for time_ns, *cells in series.values:
            fields = tuple(
                _field(column, cell)
                for column, cell in zip(series.columns[1:], cells, strict=True)
                if cell is not None
            )
            if fields and isinstance(time_ns, int):
                found.append(made_point(key, time_ns, fields))
    return found


def deletion(
    statement: Delete | DropSeries | DropMeasurement,
    catalog: Catalog,
    database: str,
    now_ns: int,
) -> Deletion:
    """A statement's deletion, from the shards of all policies of the database.

    Raises:
        StatementFailed: there is no such database, or a deletion does not support the condition.
    """
    there = data.found_database(catalog, database)
    if isinstance(statement, DropMeasurement):
        sources: tuple[Source, ...] = (Source(statement.name),)
        where = conditions.Where()
    else:
        sources = statement.sources
        where = conditions.where(statement.condition, now_ns)
        if isinstance(statement, DropSeries) and where.is_timed:
            raise StatementFailed("DROP SERIES doesn't support time in WHERE clause")
    shards = data.shards_of(there.retention_policies, where.min_time_ns, where.max_time_ns)
    _expect_no_fields(catalog, shards, sources, where)

    def wanted(key: bytes) -> bool:
        name = data.series_name(split_key(key)[0])
        if sources and not any(list(data.matching(of, [name.measurement])) for of in sources):
            return False
        return conditions.holds(where.rest, lambda tag: name.tags.get(tag, "")) is True

    # A series is deleted with all of its points, also at times that cannot be written.
    times = (where.min_time_ns, where.max_time_ns) if where.is_timed else (MIN_TIME_NS, MAX_TIME_NS)
    # The deletion goes to all shards, and all that have the series change their modification time.
    everywhere = data.shards_of(there.retention_policies, MIN_TIME_NS, MAX_TIME_NS)
    return Deletion(tuple(everywhere), wanted, *times)


def _expect_no_fields(
    catalog: Catalog, shards: Sequence[ShardID], sources: Sequence[Source], where: conditions.Where
) -> None:
    asked = conditions.names(where.rest)
    if not asked:
        return
    for shard_id in shards:
        for measurement, schema in data.schemas(catalog, [shard_id]).items():
            named = not sources or any(list(data.matching(of, [measurement])) for of in sources)
            if named and asked & schema.fields.keys():
                raise StatementFailed(
                    f"shard {shard_id}: fields not supported in WHERE clause during deletion"
                )


def _field(column: str, cell: Cell) -> Field:
    name = column.encode("utf-8", "surrogateescape")
    match cell:
        case bool():
            return name, BlockType.BOOLEAN, cell
        case Unsigned():
            return name, BlockType.UNSIGNED, int(cell)
        case int():
            return name, BlockType.INTEGER, cell
        case float():
            return name, BlockType.FLOAT, cell
        case _:
            return name, BlockType.STRING, str(cell).encode("utf-8", "surrogateescape")
