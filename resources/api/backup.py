"""A backup as data: its databases, shards and measurements, and points as frames or batches.

`import shardkeeper` has what is here; docs/python.md explains it with examples.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from resources.api.contents import Measurement, Shard
from resources.api.times import Time, moment_of, nanoseconds_of
from resources.engine.events import Run
from resources.engine.export.export import Export, ExportReport
from resources.engine.export.policies import policy_of
from resources.engine.export.tables import joined_names, read_batches, read_names
from resources.errors import UsageError, counted, named_few
from resources.model import Metastore
from resources.points.batches import MAX_ROWS, Batch, joined_batches
from resources.points.filters import MAX_NS, MIN_NS, PointFilter
from resources.points.strings import Strings
from resources.points.table import Table
from resources.protocol.meta import decode_metastore
from resources.repository.backup_set import BackupSet
from resources.repository.formats.manifest import Limits
from resources.repository.repository import BackupRepository

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Name = str | bytes


class PointsLeftOut(UserWarning):
    """Archives have parts that were damaged at their source; their points are left out."""


def open_backup(url: str | Path, *, as_of: datetime | str | None = None) -> Backup:
    """Open a directory of backups, in its newest state or in that of an earlier time.

    Reads manifests and the metastore, no archive; contacts no server and changes nothing.

    Args:
        url: the directory of backups.
        as_of: backups that began later are not read; an aware datetime, or a text such as
            `20261122T095100Z` or `2026-11-22T09:51:00Z`.

    Raises:
        UsageError: `as_of` is no time, or has no time zone.
        RepositoryError: there is no such directory, no backup that old, or a manifest is damaged.
    """
    if not str(url):
        raise UsageError("the path to the backup directory is empty", hint="name the directory")
    repository = BackupRepository.open(url)
    state = repository.current(as_of=None if as_of is None else moment_of(as_of))
    return Backup(repository, state)


class Backup:
    """One state of a directory of backups; it stays the same while new backups are made."""

    def __init__(self, repository: BackupRepository, state: BackupSet) -> None:
        self._repository = repository
        self._state = state
        self._metastore: Metastore = decode_metastore(repository.read_meta(state))
        self._run = Run(lambda _: None)

    def __repr__(self) -> str:
        return f"<shardkeeper.Backup {self.name} in {self._repository.location}>"

    @property
    def name(self) -> str:
        """The newest backup of the state, such as `20261122T095100Z`."""
        return self._state.newest.file_name.removesuffix(".manifest")

    @property
    def databases(self) -> list[str]:
        """The names of the databases."""
        return [database.name for database in self._metastore.databases]

    @property
    def shards(self) -> list[Shard]:
        """The shards that have an archive, oldest first."""
        archives = self._state.archives
        found = [
            Shard.of(place, archives[place.shard_id])
            for place in self._metastore.places()
            if place.shard_id in archives
        ]
        return sorted(found, key=lambda shard: (shard.database, shard.policy, shard.start_ns))

    def measurements(self, database: str, *, policy: str | None = None) -> list[Measurement]:
        """The measurements of a database, with their tags and fields.

        Reads the archives, and decodes no point.

        Args:
            policy: of this retention policy only; None: of each.

        Raises:
            NothingMatches: no such database or policy.
            ShardkeeperError: an archive is missing or cannot be read.
        """
        plan = self._plan(Limits(database, policy or "", None), PointFilter())
        found = read_names(plan, self._repository, self._run)
        return [Measurement.of(key, names.table()) for key, names in sorted(found.items())]

    def frame(
        self,
        database: str,
        measurement: Name,
        start: Time | None = None,
        end: Time | None = None,
        *,
        where: Mapping[str, Name | None] | None = None,
        fields: Sequence[Name] = (),
        policy: str | None = None,
        strings: Strings = "str",
    ) -> pd.DataFrame:
        """The points of a measurement as a pandas DataFrame, by time.

        The columns are `time`, the tags and the fields; a row is a series at a time. Points are
        those that a restore would bring back. The whole result is in memory.

        Args:
            start, end: points from the first time on, and before the second.
            where: the value that each of these tags has; None means without the tag.
            fields: these fields only; without names all.
            policy: the retention policy; None: the default one of the database.
            strings: "str", or "bytes" where strings or tags are no UTF-8.

        Raises:
            NothingMatches: no such database or policy.
            PointsNotText: `strings` is "str", and a string or tag is no UTF-8.
            UsageError: a time without a zone, or `start` is not before `end`.
            ShardkeeperError: an archive is missing or cannot be read.

        Warns:
            PointsLeftOut: archives have parts that were damaged at their source.
        """
        from resources.points.frames import frame_of

        plan = self._plan_of(database, measurement, start, end, where, fields, policy)
        table = joined_names(plan, self._repository, self._run).table()
        batch = joined_batches(table, list(self._batches(plan, table, MAX_ROWS)))
        return frame_of(batch.by_time(), table, strings)

    def batches(
        self,
        database: str,
        measurement: Name,
        start: Time | None = None,
        end: Time | None = None,
        *,
        where: Mapping[str, Name | None] | None = None,
        fields: Sequence[Name] = (),
        policy: str | None = None,
        strings: Strings = "str",
        max_rows: int = MAX_ROWS,
    ) -> pa.RecordBatchReader:
        """The points of a measurement as Arrow record batches, one after the other.

        Memory holds one batch and a part of one series, however large the shards are. Rows come
        shard by shard, series by series, and then by time. The arguments, errors and the warning
        are those of `frame`; errors of the reading are raised while batches are taken.

        Args:
            max_rows: the most rows of a batch; wide tables have fewer.

        Raises:
            UsageError: pyarrow is not installed.
        """
        from resources.points.arrow import record_batch, require_pyarrow, schema_of

        pa = require_pyarrow()
        plan = self._plan_of(database, measurement, start, end, where, fields, policy)
        table = joined_names(plan, self._repository, self._run).table()
        about = {
            "backup": self.name,
            "database": database,
            "policy": self._policy(database, policy),
            "measurement": _encoded(measurement).decode("utf-8", "backslashreplace"),
        }
        schema = schema_of(table, about, strings)
        found = self._batches(plan, table, max_rows)
        made = (record_batch(batch, table, schema, strings) for batch in found)
        return pa.RecordBatchReader.from_batches(schema, made)

    def _batches(self, plan: Export, table: Table, max_rows: int) -> Iterator[Batch]:
        report = plan.report()
        yield from read_batches(plan, self._repository, table, report, self._run, max_rows=max_rows)
        _warn(report)

    def _plan_of(
        self,
        database: str,
        measurement: Name,
        start: Time | None,
        end: Time | None,
        where: Mapping[str, Name | None] | None,
        fields: Sequence[Name],
        policy: str | None,
    ) -> Export:
        if isinstance(fields, str | bytes):
            raise UsageError("fields is one name", hint=f"write fields=[{fields!r}]")
        start_ns = MIN_NS if start is None else nanoseconds_of(start)
        end_ns = MAX_NS if end is None else nanoseconds_of(end)
        if start_ns >= end_ns:
            raise UsageError("start is not before end", hint="end is the first time left out")
        wanted = PointFilter(
            _encoded(measurement),
            {_encoded(tag): _encoded(value or "") for tag, value in (where or {}).items()},
            frozenset(map(_encoded, fields)),
            start_ns,
            end_ns,
        )
        return self._plan(Limits(database, self._policy(database, policy), None), wanted)

    def _plan(self, limits: Limits, wanted: PointFilter) -> Export:
        return Export.of(self._repository, self._state, limits, wanted)

    def _policy(self, database: str, policy: str | None) -> str:
        return policy_of(self._metastore, database, policy)


def _warn(report: ExportReport) -> None:
    if report.damaged:
        warnings.warn(
            f"{counted(len(report.damaged), 'archive has', 'archives have')} parts that were "
            f"damaged at their source; their points are left out: {named_few(report.damaged)}",
            PointsLeftOut,
            stacklevel=3,
        )


def _encoded(name: Name) -> bytes:
    return name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
