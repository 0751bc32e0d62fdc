"""Compare a bundle of the backup with the live database, value by value.

The backup's side is read from its archives. The live side is read through the snapshotter, not
through the port that points were written to, and every copy of every shard is read. So the
comparison shows what a write did to a point, and what a JSON answer would hide.

One key's points of each copy are in memory at a time; the shards of a window are on disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from heapq import merge
from itertools import groupby
from typing import Generic, TypeVar

import numpy as np
from msgspec import Struct, field

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.clients.snapshotter import ShardStream
from resources.clients.source import ReplicaInventory
from resources.engine.merge.bundles import BackupGroup, Bundle, Window, windows_of
from resources.engine.merge.http_endpoints import PATIENCE_S, PAUSE_S, HttpEndpoints
from resources.engine.merge.slices import MAX_INT64, MIN_INT64, Span
from resources.engine.merge.typed import Codes, There, compared, in_all, in_any, last_written
from resources.engine.restore.plan import ShardRestore
from resources.errors import ArchiveCorrupt, NothingMatches, WireError, shown
from resources.model import Metastore, RetentionPolicyInfo, ShardID
from resources.repository.archives.archive import ArchiveReader
from resources.repository.archives.unpacked import UnpackedShard
from resources.repository.repository import BackupRepository
from resources.tsm.merge import SeriesPoints, series_points

Place = TypeVar("Place")

BUFFER_BYTES = 256 << 10


class KeyFound(Struct, frozen=True, eq=False):
    """Points of one key of one group, and what the live database has for them."""

    group: BackupGroup
    points: SeriesPoints
    codes: Codes


class Comparison(Struct):
    """The findings of a comparison besides the keys that its visitor receives."""

    expired: int = 0
    """Points that the live policy no longer keeps."""
    overwritten: int = 0
    """Points of the backup with a later value in another of its groups."""
    twofold: int = 0
    """Points that are there, while another live group has them with another value."""
    live: set[ShardID] = field(default_factory=set[ShardID])
    """The live shards that were read."""


Visitor = Callable[[KeyFound], None]
KeptFrom = Callable[[RetentionPolicyInfo], int | None]
"""By live policy: the oldest point that it certainly still takes; None: it takes any."""


class BundleComparer:
    """Compares bundles with one live database.

    Archives stay unpacked between comparisons, until `close`; the live side is read each time.
    """

    def __init__(
        self,
        target: Server | Cluster,
        repository: BackupRepository,
        endpoints: HttpEndpoints,
        into: str,
    ) -> None:
        self._target = target
        self._repository = repository
        self._endpoints = endpoints
        self._into = into
        self._archives = _Unpacked[ShardID]()

    def close(self) -> None:
        self._archives.keep(())

    def times_of(self, shard: ShardRestore) -> tuple[int, int] | None:
        """The first and last time in an archive, by its index; None if it has no points.

        Raises:
            TSMError, ArchiveCorrupt, StoreFailed: it cannot be read.
        """
        archive = self._archives.get(shard.place.shard_id, partial(self._unpack_archive, shard))
        first_ns, last_ns = MAX_INT64, MIN_INT64
        for file, _ in archive.shard_files(apply_tombstones=True):
            for key in file.index():
                first_ns = min(first_ns, key.entries[0].min_time)
                last_ns = max(last_ns, *(entry.max_time for entry in key.entries))
        self._archives.keep(())
        return (first_ns, last_ns) if first_ns <= last_ns else None

    def policy(self, name: str, now: Metastore | None = None) -> RetentionPolicyInfo:
        """The live policy as it is now.

        Raises:
            NothingMatches: it no longer exists.
        """
        now = now or self._target.metastore()[1]
        database = now.database(self._into)
        policy = None if database is None else database.retention_policy(name)
        if policy is None:
            raise NothingMatches(
                f"{self._target.address} has no {shown(self._into)}.{shown(name)} any more",
                hint="create it, then run the merge again; or keep the database restored beside it",
            )
        return policy

    def compare(
        self, bundle: Bundle, asked: Span, kept_from_ns: KeptFrom, visit: Visitor
    ) -> Comparison:
        """Compare every point of a bundle with the live database.

        Args:
            asked: only points of that time.
            kept_from_ns: returns the oldest point that a live policy takes.
            visit: called with every key that has points, window by window.

        Raises:
            WireError: a copy cannot be read.
            TSMError, ArchiveCorrupt: an archive, or a live shard, is broken.
            Stopped: `stop` was set.
        """
        _, now = self._target.metastore()
        live = self.policy(bundle[0].into_policy, now)
        reader = _Live(self._target, now, self._repository, self._endpoints)
        comparison = Comparison()
        limit_ns = kept_from_ns(live)
        cuts = () if limit_ns is None else (limit_ns,)
        try:
            for window in windows_of(bundle, live.shard_groups, asked, cuts=cuts):
                expired = limit_ns is not None and window.span.end_ns <= limit_ns
                self._archives.keep(s.place.shard_id for g in window.groups for s in g.shards)
                if expired:
                    found = self._expected(window, comparison)
                    comparison.expired += sum(len(points.times) for _, points in found)
                else:
                    self._window(window, reader, comparison, visit)
        finally:
            reader.close()
        return comparison

    def _window(
        self, window: Window, reader: _Live, comparison: Comparison, visit: Visitor
    ) -> None:
        shards = reader.cursors(window)
        comparison.live.update(shards)
        for group, points in self._expected(window, comparison):
            self._endpoints.check_stop()
            found = [
                in_all([compared(points, copy.at(points.key)) for copy in copies])
                for copies in shards.values()
                if copies
            ]
            codes = in_any(found) if found else np.full(len(points.times), There.MISSING, np.uint8)
            if len(found) > 1:
                others = [(each == There.OTHER) | (each == There.TYPE) for each in found]
                comparison.twofold += int(
                    ((codes == There.SAME) & np.logical_or.reduce(others)).sum()
                )
            visit(KeyFound(group, points, codes))

    def _expected(
        self, window: Window, comparison: Comparison
    ) -> Iterator[tuple[BackupGroup, SeriesPoints]]:
        """The points of a window that the live database should have, by key."""
        groups: list[BackupGroup] = []
        walks: list[Iterator[tuple[int, SeriesPoints]]] = []
        for group in window.groups:
            for shard in group.shards:
                archive = self._archives.get(
                    shard.place.shard_id, partial(self._unpack_archive, shard)
                )
                # Deletes are applied, as in the restored temporary database.
                files = archive.shard_files(apply_tombstones=True)
                times = window.span.start_ns, window.span.end_ns
                walks.append(_numbered(len(groups), series_points(files, times=times)))
                groups.append(group)
        every = merge(*walks, key=lambda item: (item[1].key, item[0]))
        for _, same_key in groupby(every, key=lambda item: item[1].key):
            parts = list(same_key)
            kept, overwritten = last_written([points for _, points in parts])
            comparison.overwritten += overwritten
            for (at, _), points in zip(parts, kept, strict=True):
                if points is not None:
                    yield groups[at], points

    def _unpack_archive(self, shard: ShardRestore) -> UnpackedShard:
        unpacked = UnpackedShard(
            self._repository.scratch_dir, keep_damaged=shard.archive.may_be_damaged
        )
        with _closed_on_error(unpacked), self._repository.open_archive(shard.archive) as source:
            for chunk in ArchiveReader(source, max_bytes=shard.archive.entry.size_bytes).chunks():
                unpacked.feed(chunk)
                self._endpoints.check_stop()
            unpacked.finish()
        return unpacked


class _Live:
    """The live shards of one comparison: every copy is read once, and kept while needed."""

    def __init__(
        self,
        target: Server | Cluster,
        now: Metastore,
        repository: BackupRepository,
        endpoints: HttpEndpoints,
    ) -> None:
        self._target = target
        self._repository = repository
        self._endpoints = endpoints
        self._now = now
        self._inventory: ReplicaInventory = target.inventory(now)
        self._copies = _Unpacked[tuple[ShardID, str]]()

    def close(self) -> None:
        self._copies.keep(())

    def cursors(self, window: Window) -> dict[ShardID, list[_Cursor]]:
        """For each live shard of a window, one cursor for each copy that should exist.

        Raises:
            WireError: a node that should have a copy does not answer.
        """
        # No query reads a shard without owners.
        nodes = {
            shard.id: self._target.nodes_of(shard, self._now)
            for group in window.live
            for shard in group.shards
        }
        self._copies.keep((shard_id, node) for shard_id, here in nodes.items() for node in here)
        times = window.span.start_ns, window.span.end_ns
        return {
            shard_id: [_Cursor(self._copy(shard_id, node), times) for node in here]
            for shard_id, here in nodes.items()
        }

    def _copy(self, shard_id: ShardID, node: str) -> UnpackedShard | None:
        if not self._is_on(node, shard_id):
            return None
        return self._copies.get((shard_id, node), partial(self._unpack_copy, shard_id, node))

    def _is_on(self, node: str, shard_id: ShardID) -> bool:
        """Whether the copy exists; one without any write yet does not."""
        if node in self._inventory.silent:
            raise self._inventory.silent[node]
        return any(copy.node == node for copy in self._inventory.copies.get(shard_id, ()))

    def _unpack_copy(self, shard_id: ShardID, node: str) -> UnpackedShard:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._read(self._target.open_shard(shard_id, node=node))
            except (WireError, ArchiveCorrupt):  # it may be busy, or away for a moment
                if time.monotonic() > deadline:
                    raise
            self._endpoints.pause(PAUSE_S / 4)

    def _read(self, opening: AbstractContextManager[ShardStream]) -> UnpackedShard:
        buffer = memoryview(bytearray(BUFFER_BYTES))
        unpacked = UnpackedShard(self._repository.scratch_dir)
        with _closed_on_error(unpacked), opening as stream:
            while n := stream.recv_into(buffer):
                unpacked.feed(buffer[:n])
                self._endpoints.check_stop()
            unpacked.finish()
        return unpacked


class _Cursor:
    """The points of a copy, read by ascending key; a missing copy has none."""

    def __init__(self, unpacked: UnpackedShard | None, times: tuple[int, int]) -> None:
        self._wanted = b""
        files = [] if unpacked is None else unpacked.shard_files(apply_tombstones=True)
        self._walk = series_points(files, times=times, keys=lambda key: key >= self._wanted)
        self._held: SeriesPoints | None = None
        self._over = False

    def at(self, key: bytes) -> SeriesPoints | None:
        """The points of a key, or None; keys must ascend from call to call."""
        self._wanted = key
        while not self._over and (self._held is None or self._held.key < key):
            self._held = next(self._walk, None)
            self._over = self._held is None
        return self._held if self._held is not None and self._held.key == key else None


class _Unpacked(Generic[Place]):
    """Unpacked shards by their origin; `keep` closes the others and frees their space."""

    def __init__(self) -> None:
        self._there: dict[Place, UnpackedShard] = {}

    def get(self, place: Place, unpack: Callable[[], UnpackedShard]) -> UnpackedShard:
        if place not in self._there:
            self._there[place] = unpack()
        return self._there[place]

    def keep(self, wanted: Iterable[Place]) -> None:
        for place in self._there.keys() - set(wanted):
            self._there.pop(place).close()


@contextmanager
def _closed_on_error(unpacked: UnpackedShard) -> Generator[None]:
    try:
        yield
    except BaseException:
        unpacked.close()
        raise


def _numbered(at: int, points: Iterator[SeriesPoints]) -> Iterator[tuple[int, SeriesPoints]]:
    return ((at, each) for each in points)
