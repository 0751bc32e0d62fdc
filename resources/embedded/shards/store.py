"""ShardStore: the shards of one data node, on disk below one directory.

    store = ShardStore(directory, clock=time.time_ns)
    store.create("db", "autogen", ShardID(1))
    store.write(ShardID(1), parse_lines(body, now_ns=time.time_ns()).points)
    with store.snapshot(ShardID(1)) as members:
        ...

Layout below the directory: data/<database>/<policy>/<shard>/*.tsm, and a file
wal/<database>/<policy>/<shard>.wal.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from threading import RLock
from typing import Literal

from msgspec import Struct

from resources.embedded.server_errors import ShardTaken, ShardUnknown
from resources.embedded.shards.files import KeyFilter
from resources.embedded.shards.points import Point
from resources.embedded.shards.shard import MemoryFigures, Shard, ShardMember, ShardUpload
from resources.errors import TSMError
from resources.model import ShardID
from resources.protocol.influxql import check_name
from resources.tsm.layout import BlockType
from resources.tsm.merge import SeriesPoints
from resources.tsm.tombstone import MAX_TIME_NS, MIN_TIME_NS


class StoredShard(Struct, frozen=True):
    """A shard and its figures."""

    database: str
    policy: str
    id: ShardID
    num_files: int
    """The number of TSM files."""
    disk_bytes: int
    """The size of the TSM files."""
    last_modified_ns: int
    """The time of its newest file or last write; 0 without either."""
    write_points_ok: int
    """Counted since the store was opened."""
    state: Literal["hot", "cold"]
    """Hot while the cache has points."""
    memory: MemoryFigures


class ShardStore:
    """The shards of one node; thread-safe, with a lock for every shard.

    All methods with a shard's id raise ShardUnknown if there is no such shard. Methods that read
    or write a shard raise ShardDisabled while it is being restored.

    Args:
        directory: created if missing, else read.
        clock: nanoseconds since 1970.

    Attributes:
        busy: the number of next snapshots that find another one in progress, so that they leave
            out the cache, as from 1.8.5 on.
        empty_when_busy: whether they leave out the files as well, as in 1.8.0 to 1.8.4.
    """

    def __init__(self, directory: Path, clock: Callable[[], int]) -> None:
        self.directory = directory
        self.busy = 0
        self.empty_when_busy = False
        self._clock = clock
        self._lock = RLock()
        self._shards: dict[ShardID, Shard] = {}
        (directory / "data").mkdir(parents=True, exist_ok=True)
        for path in sorted((directory / "data").glob("*/*/*")):
            if path.is_dir() and path.name.isdecimal():
                database, policy = path.parts[-3:-1]
                # The server only logs "Failed to open shard".
                with suppress(TSMError):
                    self._open(database, policy, ShardID(int(path.name)))

    def set_clock(self, clock: Callable[[], int]) -> None:
        """Set the node's clock; file times still come from the machine's clock."""
        self._clock = clock

    def close(self) -> None:
        """Close the files without a flush, since the WAL has the cache."""
        with self._lock:
            for shard in self._shards.values():
                shard.close()
            self._shards.clear()

    # --- shards ---------------------------------------------------------------------------

    def shards(self) -> Mapping[ShardID, StoredShard]:
        with self._lock:
            shards = dict(sorted(self._shards.items()))
        return {
            shard_id: StoredShard(
                shard.database,
                shard.policy,
                shard.id,
                shard.n_files,
                shard.disk_bytes,
                shard.last_modified_ns,
                shard.write_points_ok,
                "hot" if shard.is_hot else "cold",
                shard.memory_figures(snapshotting=self.busy > 0),
            )
            for shard_id, shard in shards.items()
        }

    def create(self, database: str, policy: str, shard_id: ShardID) -> None:
        """Create an empty shard; an existing one stays unchanged.

        Raises:
            ShardTaken: the shard exists in another database or policy.
            UnsafeName: the name of the database or policy is invalid.
        """
        check_name("database", database)
        check_name("retention policy", policy)
        with self._lock:
            there = self._shards.get(shard_id)
            if there is None:
                self._open(database, policy, shard_id)
            elif (there.database, there.policy) != (database, policy):
                raise ShardTaken(f"shard {shard_id} is in {there.database}.{there.policy} already")

    def remove(self, shard_id: ShardID) -> None:
        """Remove a shard and its files, if there is one of that id."""
        with self._lock:
            shard = self._shards.pop(shard_id, None)
            if shard is not None:
                shard.close()
                data, wal = self._paths(shard.database, shard.policy, shard_id)
                # Renamed first: an upload may add files until the directory is removed.
                gone = data.with_name(f"{shard_id}.{os.urandom(4).hex()}.gone")
                data.rename(gone)
                shutil.rmtree(gone)
                wal.unlink(missing_ok=True)

    # --- points ---------------------------------------------------------------------------

    def keys(self, shard_id: ShardID) -> Mapping[bytes, BlockType]:
        """TSM keys and their types, in ascending order."""
        return self._shard(shard_id).keys()

    def points(
        self,
        shard_id: ShardID,
        wanted: KeyFilter | None = None,
        min_time_ns: int = MIN_TIME_NS,
        max_time_ns: int = MAX_TIME_NS,
    ) -> Iterator[SeriesPoints]:
        """Points by ascending TSM key, both ends inclusive; see `Shard.points`."""
        return self._shard(shard_id).points(wanted, min_time_ns, max_time_ns)

    def write(self, shard_id: ShardID, points: Sequence[Point]) -> None:
        """Write points.

        Raises:
            PartialWrite: some points have other types than the shard; the others were written.
        """
        self._shard(shard_id).write(points)

    def delete(
        self,
        shard_id: ShardID,
        wanted: KeyFilter,
        min_time_ns: int = MIN_TIME_NS,
        max_time_ns: int = MAX_TIME_NS,
    ) -> None:
        """Delete the points of the TSM keys that `wanted` accepts, both ends inclusive."""
        self._shard(shard_id).delete(wanted, min_time_ns, max_time_ns)

    # --- files ----------------------------------------------------------------------------

    def flush(self, shard_id: ShardID) -> None:
        """Write the cache to a TSM file; merges the files if there are over MAX_FILES."""
        self._shard(shard_id).flush()

    def compact(self, shard_id: ShardID) -> None:
        """Merge all TSM files into one, without deleted points."""
        self._shard(shard_id).compact()

    def snapshot(self, shard_id: ShardID) -> AbstractContextManager[list[ShardMember]]:
        """Flush; the TSM and tombstone files, by name, for the duration of the block."""
        with self._lock:
            busy = self.busy > 0
            self.busy -= busy
        return self._shard(shard_id).snapshot(
            cache=not busy, files=not (busy and self.empty_when_busy)
        )

    def overlay(self, shard_id: ShardID) -> AbstractContextManager[ShardUpload]:
        """Receive files with `add`; they are installed when the block ends without an error."""
        return self._shard(shard_id).overlay()

    def _shard(self, shard_id: ShardID) -> Shard:
        with self._lock:
            shard = self._shards.get(shard_id)
        if shard is None:
            raise ShardUnknown(f"shard {shard_id} not found")
        return shard

    def _open(self, database: str, policy: str, shard_id: ShardID) -> None:
        data, wal = self._paths(database, policy, shard_id)
        name = (database, policy, shard_id)
        self._shards[shard_id] = Shard(data, wal, name, lambda: self._clock())

    def _paths(self, database: str, policy: str, shard_id: ShardID) -> tuple[Path, Path]:
        place = Path(database, policy, str(shard_id))
        wal = self.directory / "wal" / place.parent / f"{shard_id}.wal"
        return self.directory / "data" / place, wal
