"""The result of a statement over the measurements of a backup."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from pipelines.ctl.output import TerminalOutput
from pipelines.ctl.row_format import (
    Cell,
    CSVRows,
    JSONRows,
    Page,
    TextTable,
    instants,
    write_pages,
)
from resources.engine.events import Run
from resources.engine.export.export import Export, ExportReport
from resources.engine.export.tables import read_batches, read_names
from resources.points.sql import Database, is_named
from resources.repository.repository import BackupRepository


def print_result(
    plan: Export,
    repository: BackupRepository,
    statement: str,
    kind: type[TextTable | CSVRows | JSONRows],
    file: IO[bytes],
    most: int,
) -> tuple[ExportReport, bool]:
    """Load the measurements that a statement names, run it, print its rows.

    Raises:
        UsageError: DuckDB is not installed, or does not take the statement.
        ShardkeeperError: an archive cannot be read.
    """
    run = Run(TerminalOutput())
    report = plan.report()
    with Database() as database:
        for (_, _, measurement), names in sorted(read_names(plan, repository, run).items()):
            name = measurement.decode("utf-8", "backslashreplace")
            if not is_named(name, statement):
                continue
            table = names.table()
            report = plan.report()
            chosen = plan.about(measurement)
            batches = read_batches(chosen, repository, table, report, run)
            database.fill(name, table, batches, "str")
        reader = database.run(statement)
        writer = kind(file, reader.schema.names)
        complete = write_pages(_pages(database.rows(reader)), writer, most)
    return report, complete


def _pages(batches: Iterator[Any]) -> Iterator[Page]:
    for batch in batches:
        yield [_column(column) for column in batch.columns]


def _column(column: Any) -> list[Cell]:
    if str(column.type).startswith("timestamp[ns"):
        nulls = column.is_null().to_pylist()
        texts = instants(column.cast("int64").fill_null(0).to_numpy(zero_copy_only=False))
        return [None if null else text for text, null in zip(texts, nulls, strict=True)]
    return [_cell(value) for value in column.to_pylist()]


def _cell(value: Any) -> Cell:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return str(value)
