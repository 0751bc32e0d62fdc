"""The columns of the measurements of an export, and their points as batches of rows.

Columns must be known before the first row, so every archive is read twice: first its index alone,
from which no point is decoded, then its points.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from msgspec import Struct, field

from resources.engine.events import Run
from resources.engine.export.export import ALL_READ, Export, ExportReport
from resources.points.batches import MAX_ROWS, Batch, Batches
from resources.points.series import parse_series
from resources.points.table import Table
from resources.repository.repository import BackupRepository
from resources.tsm.layout import BlockType, split_key

MeasurementKey = tuple[str, str, bytes]
"""Database, policy, measurement."""


class Names(Struct):
    """The tags and fields of a measurement."""

    tags: set[bytes] = field(default_factory=set[bytes])
    fields: dict[bytes, set[BlockType]] = field(default_factory=dict[bytes, set[BlockType]])

    def table(self) -> Table:
        return Table.of(self.tags, self.fields)


def read_names(plan: Export, repository: BackupRepository, run: Run) -> dict[MeasurementKey, Names]:
    """The tags and fields that the wanted points may have, from the indexes of the archives.

    Raises:
        ShardkeeperError: an archive cannot be read.
        Stopped: the run is to end early.
    """
    found: dict[MeasurementKey, Names] = {}
    for place, shard in plan.opened(repository, plan.report(), run):
        keys = shard.keys(plan.wanted)
        for series, group in groupby(keys, key=lambda item: split_key(item[0])[0]):
            run.check(ALL_READ)
            name = parse_series(series)
            key = place.database, place.policy, name.measurement
            names = found.setdefault(key, Names())
            names.tags.update(tag for tag, _ in name.tags)
            for raw, kind in group:
                names.fields.setdefault(split_key(raw)[1], set()).add(kind)
    return found


def joined_names(plan: Export, repository: BackupRepository, run: Run) -> Names:
    """The tags and fields of the one measurement that a plan is about, over its policies.

    Raises as `read_names`.
    """
    all_names = Names()
    for names in read_names(plan, repository, run).values():
        all_names.tags |= names.tags
        for name, kinds in names.fields.items():
            all_names.fields.setdefault(name, set()).update(kinds)
    return all_names


def read_batches(
    plan: Export,
    repository: BackupRepository,
    table: Table,
    report: ExportReport,
    run: Run,
    *,
    max_rows: int = MAX_ROWS,
) -> Iterator[Batch]:
    """Yield the rows of a plan's measurement: by shard, then by series, then by time.

    Raises:
        ShardkeeperError: an archive cannot be read.
        Stopped: the run is to end early.
    """
    batches = Batches(table, max_rows)
    for _, points in plan.series(repository, report, run):
        yield from batches.of(points)
        yield from batches.finish()  # rows of two shards may be of the same series
