"""Points out of a backup, without a server: which shards are read, and what is known afterwards.

The shards are those that a restore of the same limits would send, so an export has the points that
the restored database would have: merged over files, the later one wins, deleted points left out.
Nothing is skipped in silence: a missing archive is an error before anything is read, and what was
damaged at its source is named at the end. The test is tests/wire/test_export.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime

from msgspec import Struct, field
from msgspec.structs import replace

from resources.engine.events import PROGRESS_EVERY_S, PointsRead, Run
from resources.engine.restore.archives import check_places, require_complete_backup
from resources.engine.selection import select
from resources.model import ShardPlace
from resources.points.filters import PointFilter
from resources.points.shard_points import ShardPoints, open_points
from resources.protocol.meta import decode_metastore
from resources.repository.backup_set import Archive, BackupSet
from resources.repository.formats.manifest import Limits
from resources.repository.repository import BackupRepository
from resources.tsm.merge import SeriesPoints

Visit = Callable[[ShardPlace, Iterator[SeriesPoints]], None]
"""Called for each shard with its points, keys ascending."""
ALL_READ = "all points were read"


class ExportReport(Struct):
    """What was read."""

    backup: str = ""
    """The newest backup of the state."""
    shards: int = 0
    values: int = 0
    damaged: list[str] = field(default_factory=list[str])
    """Archives with parts that were damaged at their source; what is whole in them was read."""


class Export(Struct, frozen=True):
    """The shards of one state that may have wanted points, oldest shard group first."""

    state: BackupSet
    shards: tuple[tuple[ShardPlace, Archive], ...]
    wanted: PointFilter

    @classmethod
    def plan(
        cls,
        repository: BackupRepository,
        limits: Limits,
        wanted: PointFilter,
        *,
        as_of: datetime | None = None,
    ) -> Export:
        """Choose the shards; raises as `of`, and if the state cannot be read."""
        return cls.of(repository, repository.current(as_of=as_of), limits, wanted)

    @classmethod
    def of(
        cls, repository: BackupRepository, state: BackupSet, limits: Limits, wanted: PointFilter
    ) -> Export:
        """Choose the shards of a state.

        Raises:
            NothingMatches: the state has no such database, policy or shard.
            BackupIncomplete: an archive is missing.
            RepositoryError, WireError: the metastore cannot be read.
        """
        found = select(decode_metastore(repository.read_meta(state)), limits)
        places = [place for place in found if wanted.wants_group(place.group)]
        require_complete_backup(state, places, limits)
        stored = [place for place in places if place.shard_id in state.archives]
        check_places(state, stored)
        stored.sort(key=lambda place: (place.group.start_time_ns, place.policy, place.shard_id))
        shards = tuple((place, state.archives[place.shard_id]) for place in stored)
        return cls(state, shards, wanted)

    def read(self, repository: BackupRepository, visit: Visit, run: Run) -> ExportReport:
        """Read every shard; each archive is unpacked into the repository's scratch space.

        Raises:
            ShardkeeperError: an archive cannot be read; or what `visit` raises.
            Stopped: the run is to end early.
        """
        report = self.report()
        progress = _Progress(report, len(self.shards), run)
        for place, shard in self.opened(repository, report, run):
            visit(place, progress.counted(shard.read(self.wanted)))
        return report

    def about(self, measurement: bytes) -> Export:
        """The same, of one measurement."""
        return replace(self, wanted=replace(self.wanted, measurement=measurement))

    def report(self) -> ExportReport:
        """A report to be filled."""
        return ExportReport(self.state.newest.file_name.removesuffix(".manifest"))

    def opened(
        self, repository: BackupRepository, report: ExportReport, run: Run
    ) -> Iterator[tuple[ShardPlace, ShardPoints]]:
        """Yield each shard while its archive is unpacked; the report then has its facts.

        Raises:
            ShardkeeperError: an archive cannot be read.
            Stopped: the run is to end early.
        """
        for place, archive in self.shards:
            with open_points(repository, archive, check=lambda: run.check(ALL_READ)) as shard:
                yield place, shard
                if shard.damaged:
                    report.damaged.append(archive.entry.file_name)
            report.shards += 1

    def series(
        self, repository: BackupRepository, report: ExportReport, run: Run
    ) -> Iterator[tuple[ShardPlace, Iterator[list[SeriesPoints]]]]:
        """Yield the points of each shard, series by series in windows of bounded size.

        Raises:
            ShardkeeperError: an archive cannot be read.
            Stopped: the run is to end early.
        """
        progress = _Progress(report, len(self.shards), run)
        for place, shard in self.opened(repository, report, run):
            yield place, progress.counted_series(shard.series(self.wanted))


class _Progress:
    """Counts the values that pass, and emits how many there were so far."""

    def __init__(self, report: ExportReport, total: int, run: Run) -> None:
        self._report, self._total, self._run = report, total, run
        self._reported_s = time.monotonic()

    def counted(self, points: Iterator[SeriesPoints]) -> Iterator[SeriesPoints]:
        for found in points:
            self._check()
            self._report.values += len(found.times)
            yield found
            self._emit()

    def counted_series(self, points: Iterator[list[SeriesPoints]]) -> Iterator[list[SeriesPoints]]:
        for found in points:
            self._check()
            self._report.values += sum(len(one.times) for one in found)
            yield found
            self._emit()

    def _check(self) -> None:
        self._run.check(ALL_READ)

    def _emit(self) -> None:
        if time.monotonic() - self._reported_s >= PROGRESS_EVERY_S:
            self._reported_s = time.monotonic()
            self._run.emit(PointsRead(self._report.shards, self._total, self._report.values))
