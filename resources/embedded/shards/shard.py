"""One shard of a data node: a WAL and a cache in front of TSM files.

Source: influxdb tsdb/shard.go; tsdb/engine/tsm1/engine.go, WriteSnapshot, DeleteSeriesRange,
overlay, CreateBackup.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

from msgspec import Struct

from resources.embedded.server_errors import PartialWrite, ShardDisabled
from resources.embedded.shards.cache import Cache, between, merged
from resources.embedded.shards.files import (
    MAX_FILES,
    KeyFilter,
    ShardFiles,
    check_file_name,
    opened,
    reading,
)
from resources.embedded.shards.points import Field, Point, made_point
from resources.embedded.shards.wal import WAL, replayed
from resources.model import ShardID
from resources.tsm.layout import BlockType, split_key
from resources.tsm.merge import SeriesPoints, series_points
from resources.tsm.tombstone import MAX_TIME_NS, MIN_TIME_NS, Tombstone

VALUE_BYTES = 16
"""The size of a cached value in figures."""

FLUSH_VALUES = 250_000
"""The number of cached values at which the shard flushes by itself."""


class ShardMember(Struct, frozen=True):
    """A file in a snapshot of a shard."""

    name: str
    """`database/policy/shard/file`, as in backups."""
    path: Path
    """The file, as long as the snapshot is open."""
    size_bytes: int
    mtime_ns: int


class MemoryFigures(Struct, frozen=True):
    """A shard's figures at /debug/vars: its cache and WAL, and changes of its files."""

    memory_bytes: int
    snapshot_bytes: int
    snapshot_attempts: int
    taken_bytes: int
    wal_bytes: int
    wal_writes: int
    compactions: int


class Shard:
    """One shard.

    Raises:
        TSMError: a file of the directory is broken.
    """

    def __init__(
        self, directory: Path, wal: Path, name: tuple[str, str, ShardID], clock: Callable[[], int]
    ) -> None:
        self.database, self.policy, self.id = name
        self._clock = clock
        self._lock = RLock()
        self._disabled = False
        self._files = ShardFiles(directory)
        self._files.clean()
        self._cache = Cache()
        self._types: dict[bytes, dict[bytes, BlockType]] = {}
        wal.parent.mkdir(parents=True, exist_ok=True)
        for reported in replayed(wal):
            if reported and isinstance(reported[0], Point):
                self._cache.add(point for point in reported if isinstance(point, Point))
            elif reported:
                self._bury([gone for gone in reported if isinstance(gone, Tombstone)])
        self._learn_types()
        self._wal = WAL(wal)
        self._written_ns = wal.stat().st_mtime_ns if self._cache.n_values else 0
        self._files_ns = max(self._mtimes(), default=0)
        self.write_points_ok = 0
        self._taken_bytes = self._wal_writes = self._compactions = 0

    # --- figures --------------------------------------------------------------------------

    @property
    def n_files(self) -> int:
        return len(self._files.files)

    @property
    def disk_bytes(self) -> int:
        return sum(file.size_bytes for file in list(self._files.files))

    @property
    def last_modified_ns(self) -> int:
        """The later time of files and WAL; a clock that is set back changes only one of them.

        Source: influxdb tsdb/engine/tsm1/engine.go, LastModified.
        """
        return max(self._files_ns, self._written_ns)

    @property
    def is_hot(self) -> bool:
        """Whether the cache has points, or files need a merge."""
        files = self._files.files
        return self._cache.n_values > 0 or len(files) > 1 or any(f.tombstones for f in files)

    def memory_figures(self, *, snapshotting: bool) -> MemoryFigures:
        """The present figures.

        Args:
            snapshotting: whether to report the cache as a snapshot that is never finished.
        """
        with self._lock:
            cached = self._cache.n_values * VALUE_BYTES
            snapshotting = snapshotting and cached > 0
            return MemoryFigures(
                memory_bytes=cached,
                snapshot_bytes=cached if snapshotting else 0,
                snapshot_attempts=int(snapshotting),
                taken_bytes=self._taken_bytes,
                wal_bytes=self._wal.size_bytes,
                wal_writes=self._wal_writes,
                compactions=self._compactions,
            )

    def keys(self) -> dict[bytes, BlockType]:
        """TSM keys and their types, in ascending order."""
        with self._lock:
            return dict(sorted([*self._files.key_types(), *self._cache.key_types()]))

    # --- reading --------------------------------------------------------------------------

    def points(
        self,
        wanted: KeyFilter | None = None,
        min_time_ns: int = MIN_TIME_NS,
        max_time_ns: int = MAX_TIME_NS,
    ) -> Iterator[SeriesPoints]:
        """The present points by ascending TSM key; later changes are not included.

        Args:
            wanted: a filter of TSM keys.
            min_time_ns: the beginning of the range, inclusive.
            max_time_ns: its end, inclusive.
        """
        with self._lock:
            self._expect_enabled()
            cached = self._cache.series_points(wanted)
            reader = reading(self._files.files, wanted, min_time_ns, max_time_ns)
            files = reader.__enter__()
        try:
            for found in merged(series_points(files), cached):
                within = between(found, min_time_ns, max_time_ns)
                if within is not None:
                    yield within
        finally:
            reader.__exit__(None, None, None)

    @contextmanager
    def snapshot(self, *, cache: bool = True, files: bool = True) -> Generator[list[ShardMember]]:
        """Flush, then hard-link TSM and tombstone files for the duration of the block.

        Args:
            cache: whether to flush first.
            files: whether to link any.
        """
        with self._lock:
            self._expect_enabled()
            if cache:
                self.flush()
            aside = self._files.directory / f"{os.urandom(4).hex()}.tmp"
            aside.mkdir()
            members: list[ShardMember] = []
            for path in self._files.paths if files else ():
                linked = aside / path.name
                linked.hardlink_to(path)
                status = linked.stat()
                name = f"{self.database}/{self.policy}/{self.id}/{path.name}"
                members.append(ShardMember(name, linked, status.st_size, status.st_mtime_ns))
        try:
            yield members
        finally:
            # The shard may have been removed meanwhile.
            shutil.rmtree(aside, ignore_errors=True)

    # --- changing -------------------------------------------------------------------------

    def write(self, points: Sequence[Point]) -> None:
        """Write points; after the return, a kill does not lose them.

        Raises:
            PartialWrite: some points have other types than the shard; the others were written.
        """
        with self._lock:
            self._expect_enabled()
            accepted, reason, dropped = self._checked(points)
            if accepted:
                self._wal.append_points(accepted)
                self._cache.add(accepted)
                self.write_points_ok += len(accepted)
                self._written_ns = self._clock()
                self._wal_writes += 1
                if self._cache.n_values > FLUSH_VALUES:
                    self.flush()
        if dropped:
            raise PartialWrite(reason, dropped)

    def flush(self) -> None:
        """Write the cache to a TSM file."""
        with self._lock:
            self._expect_enabled()
            if self._cache.n_values:
                self._taken_bytes += self._cache.n_values * VALUE_BYTES
                self._files.add(self._cache.series_points())
                self._files_changed()
            self._cache.clear()
            self._wal.clear()
            if self.n_files > MAX_FILES:
                self.compact()

    def compact(self) -> None:
        """Merge all files into one, without deleted points; the cache stays."""
        with self._lock:
            self._expect_enabled()
            before = [file.path for file in self._files.files]
            self._files.merge()
            if before != [file.path for file in self._files.files]:
                self._compactions += 1
                self._files_changed()

    def delete(
        self, wanted: KeyFilter, min_time_ns: int = MIN_TIME_NS, max_time_ns: int = MAX_TIME_NS
    ) -> None:
        """Delete the points of the TSM keys that `wanted` accepts, both ends inclusive."""
        with self._lock:
            self._expect_enabled()
            keys = {key for key, _ in (*self._files.key_types(), *self._cache.key_types())}
            gone = [Tombstone(key, min_time_ns, max_time_ns) for key in sorted(keys) if wanted(key)]
            if not gone:
                return
            # The WAL gets it first, so that a kill leaves no deletion half done.
            self._wal.append_deletion(gone)
            self._bury(gone)
            self._files_ns = self._clock()  # the server does so in every shard with the series
            if not self._cache.n_values:
                self._wal.clear()
            self._learn_types()

    @contextmanager
    def overlay(self) -> Generator[ShardUpload]:
        """Receive files; they become part of the shard when the block ends without an error.

        The shard is disabled during the block. Files of the same names are overwritten. After an
        error the received files stay as `*.tmp` until the store is opened again.
        """
        with self._lock:
            self._expect_enabled()
            self._disabled = True
        try:
            upload = ShardUpload(self._files.directory)
            yield upload
            with self._lock:
                upload.commit()
                self._files.reopen()
                self._files_changed()
                self._learn_types()
        finally:
            self._disabled = False

    def close(self) -> None:
        """Close the files; the shard cannot be used afterwards."""
        with self._lock:
            self._disabled = True
            self._wal.close()

    def _bury(self, gone: Sequence[Tombstone]) -> bool:
        """Delete one range of several keys; returns whether the files had points in it."""
        self._cache.delete(gone)
        keys = {deleted.key for deleted in gone}
        _, low, high = gone[0]
        return self._files.delete(keys.__contains__, low, high)

    # --- types ----------------------------------------------------------------------------

    def _checked(self, points: Sequence[Point]) -> tuple[list[Point], str, int]:
        accepted: list[Point] = []
        reason, dropped = "", 0
        for point in points:
            columns = self._cache.series.get(point.series)
            fields = point.fields
            objection = ""
            for name, kind, _ in point.fields:
                column = columns.get(name) if columns is not None else None
                if column is None or column.type is not kind:
                    objection, fields = self._validated(point)
                    break
            if objection:
                reason = reason or objection
                dropped += 1
            elif len(fields) == len(point.fields):
                accepted.append(point)
            else:
                accepted.append(made_point(point.series, point.time_ns, fields))
        return accepted, reason, dropped

    def _validated(self, point: Point) -> tuple[str, tuple[Field, ...]]:
        """The error of a point, or ""; and its fields without those to be dropped."""
        measurement = measurement_of(point.series)
        on = f'on measurement "{measurement.decode(errors="replace")}" is'
        if b",time=" in point.series[len(measurement) :]:
            return f'invalid tag key: input tag "time" {on} invalid', ()
        fields = tuple(field for field in point.fields if field[0] != b"time")
        if not fields:
            return f'invalid field name: input field "time" {on} invalid', ()
        types = dict(self._types.get(measurement, {}))
        for name, kind, _ in fields:
            if types.setdefault(name, kind) is not kind:
                return (
                    f'field type conflict: input field "{name.decode(errors="replace")}" {on}'
                    f" type {kind.name.lower()}, already exists as type {types[name].name.lower()}",
                    (),
                )
        self._types[measurement] = types
        return "", fields

    def _learn_types(self) -> None:
        self._types.clear()
        for key, kind in (*self._files.key_types(), *self._cache.key_types()):
            series, name = split_key(key)
            self._types.setdefault(measurement_of(series), {}).setdefault(name, kind)

    # --- times ----------------------------------------------------------------------------

    def _mtimes(self) -> list[int]:
        return [path.stat().st_mtime_ns for path in self._files.paths]

    def _files_changed(self) -> None:
        # As in the server, a change of files always changes the time.
        self._files_ns = max(max(self._mtimes(), default=0), self._files_ns + 1)

    def _expect_enabled(self) -> None:
        if self._disabled:
            raise ShardDisabled(f"shard {self.id} is disabled")


class ShardUpload:
    """The upload of files into a shard."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pending: dict[str, Path] = {}

    def add(self, name: str, chunks: Iterable[bytes | bytearray | memoryview]) -> None:
        """Receive a file.

        Raises:
            UnsafeName: the name is not that of a TSM file.
        """
        check_file_name(name)
        pending = self._directory / f"{name}.tmp"
        with pending.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        self._pending[name] = pending

    def commit(self) -> None:
        """Make the received files part of the shard.

        Raises:
            TSMError: one of them is not a TSM file; then none is accepted.
        """
        for pending in self._pending.values():
            opened(pending)
        for name, pending in self._pending.items():
            pending.rename(self._directory / name)


def measurement_of(series: bytes) -> bytes:
    """The escaped measurement of a series key: up to the first unescaped comma."""
    at = series.find(b",")
    while at > 0 and series[at - 1] == 0x5C:
        at = series.find(b",", at + 1)
    return series if at < 0 else series[:at]
