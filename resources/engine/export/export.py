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

from resources.engine.events import PROGRESS_EVERY_S, PointsRead, Run
from resources.engine.restore.archives import check_places, require_complete_backup
from resources.engine.selection import select
from resources.model import ShardPlace
from resources.points.filters import PointFilter
from resources.points.shard_points import open_points
from resources.protocol.meta import decode_metastore
from resources.repository.backup_set import Archive, BackupSet
from resources.repository.formats.manifest import Limits
from resources.repository.repository import BackupRepository
from resources.tsm.merge import SeriesPoints

Visit = Callable[[ShardPlace, Iterator[SeriesPoints]], None]
"""Called for each shard with its points, keys ascending."""


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
        """Choose the shards.

        Raises:
            NothingMatches: the state has no such database, policy or shard.
            BackupIncomplete: an archive is missing.
            RepositoryError, WireError: the state cannot be read.
        """
        state = repository.current(as_of=as_of)
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
        report = ExportReport(self.state.newest.file_name.removesuffix(".manifest"))
        reported_s = time.monotonic()

        def counted(points: Iterator[SeriesPoints]) -> Iterator[SeriesPoints]:
            nonlocal reported_s
            for found in points:
                run.check("all points were read")
                report.values += len(found.times)
                yield found
                if time.monotonic() - reported_s >= PROGRESS_EVERY_S:
                    reported_s = time.monotonic()
                    run.emit(PointsRead(report.shards, len(self.shards), report.values))

        for place, archive in self.shards:
            with open_points(
                repository, archive, check=lambda: run.check("all points were read")
            ) as shard:
                visit(place, counted(shard.read(self.wanted)))
                if shard.damaged:
                    report.damaged.append(archive.entry.file_name)
            report.shards += 1
        return report
