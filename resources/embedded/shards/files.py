"""The TSM files of one shard, with their tombstones.

Names are `generation (9 digits)-sequence (9 digits).tsm`; an unfinished file ends in `.tmp`.

Source: influxdb tsdb/engine/tsm1/file_store.go, compact.go, tombstone.go.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from resources.embedded.shards.wal import packed
from resources.errors import TSMError, UnsafeName, shown
from resources.tsm.deletions import Deletions
from resources.tsm.layout import BlockType, IndexKey, split_key
from resources.tsm.merge import SeriesPoints, ShardFile, series_points
from resources.tsm.reader import TSMFile
from resources.tsm.source import FileSource
from resources.tsm.tombstone import V4, Tombstone, parse_tombstones
from resources.tsm.writer import TSMWriter

FILE_NAME = re.compile(r"([0-9]{1,9})-([0-9]{1,9})\.tsm")
"""The server's form of generation and sequence."""
MAX_FILES = 4
"""More files are merged into one."""

KeyFilter = Callable[[bytes], bool]


class StoredFile(Struct, frozen=True):
    """A TSM file with its index and its deletions."""

    path: Path
    size_bytes: int
    mtime_ns: int
    index: tuple[IndexKey, ...]
    tombstones: tuple[Tombstone, ...]

    @property
    def tombstone_path(self) -> Path:
        return self.path.with_suffix(".tombstone")

    @property
    def number(self) -> tuple[int, int]:
        """Generation and sequence; `ShardFiles` has no other names."""
        generation, sequence = self.path.stem.split("-")
        return int(generation), int(sequence)


class ShardFiles:
    """The files of a directory; the caller holds a lock.

    Raises:
        TSMError: a file of the directory is broken.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: list[StoredFile] = []
        directory.mkdir(parents=True, exist_ok=True)
        self.reopen()

    def reopen(self) -> None:
        """Read the directory again."""
        paths = sorted(p for p in self.directory.iterdir() if FILE_NAME.fullmatch(p.name))
        self.files = [opened(path) for path in paths]
        for orphan in set(self.directory.glob("*.tombstone")) - {
            file.tombstone_path for file in self.files
        }:
            orphan.unlink()

    def clean(self) -> None:
        """Remove the unfinished files of a killed process."""
        for path in self.directory.glob("*.tmp"):
            if path.is_dir():
                for member in path.iterdir():
                    member.unlink()
                path.rmdir()
            else:
                path.unlink()

    @property
    def paths(self) -> list[Path]:
        """TSM and tombstone files in lexical order."""
        tombstones = [file.tombstone_path for file in self.files if file.tombstones]
        return sorted([*(file.path for file in self.files), *tombstones])

    def add(self, found: Iterable[SeriesPoints], number: tuple[int, int] | None = None) -> None:
        """Write points as a file, by default of the next generation; without points, no file."""
        if number is None:
            number = (max((file.number[0] for file in self.files), default=0) + 1, 1)
        path = self.directory / f"{number[0]:09}-{number[1]:09}.tsm"
        pending = path.with_name(path.name + ".tmp")
        empty = True
        with pending.open("wb") as file:
            writer = TSMWriter(file.write)
            for series in found:
                writer.write(series.key, series.type, series.times, series.values)
                empty = False
            if not empty:
                writer.finish()
                file.flush()
                os.fsync(file.fileno())
        if empty:
            pending.unlink()
            return
        pending.rename(path)
        self.files.append(opened(path))
        self.files.sort(key=lambda stored: stored.path.name)

    def merge(self) -> None:
        """Merge all files into one, without deleted points; a single file without deletes stays."""
        before = list(self.files)
        if len(before) < 2 and not any(file.tombstones for file in before):
            return
        generation, sequence = max(file.number for file in before)
        with reading(before) as files:
            self.add(series_points(files), (generation, sequence + 1))
        for file in before:
            self.remove(file)

    def remove(self, file: StoredFile) -> None:
        # Tombstones are removed last: without them the deleted points would come back.
        file.path.unlink()
        file.tombstone_path.unlink(missing_ok=True)
        self.files.remove(file)

    def delete(self, wanted: KeyFilter, min_time_ns: int, max_time_ns: int) -> bool:
        """Add tombstones for the TSM keys that `wanted` accepts; returns whether any are new."""
        changed = False
        for file in list(self.files):
            known = frozenset(file.tombstones)
            deleted = [
                tombstone
                for found in file.index
                if found.entries[0].min_time <= max_time_ns
                and max(entry.max_time for entry in found.entries) >= min_time_ns
                and wanted(found.key)
                and (tombstone := Tombstone(found.key, min_time_ns, max_time_ns)) not in known
            ]
            if deleted:
                self._bury(file, deleted)
                changed = True
        return changed

    def _bury(self, file: StoredFile, deleted: Sequence[Tombstone]) -> None:
        """Append a gzip member, as in version 4 of the format."""
        path = file.tombstone_path
        before = path.read_bytes() if path.exists() else V4
        pending = path.with_name(path.name + ".tmp")
        pending.write_bytes(before + gzip.compress(packed(deleted), mtime=0))
        pending.rename(path)
        now = opened(file.path)
        self.files[self.files.index(file)] = now
        with reading([now]) as files:
            left = next(series_points(files), None)
        if left is None:
            self.remove(now)

    def key_types(self) -> Iterator[tuple[bytes, BlockType]]:
        """Yield the keys that are not deleted for all time; a key may occur twice."""
        for file in self.files:
            gone = _deleted(file)
            for found in file.index:
                low, high = found.entries[0].min_time, max(e.max_time for e in found.entries)
                ranges = gone.get(found.key, ())
                if not any(first <= low and high <= last for first, last in ranges):
                    yield found.key, found.type


@contextmanager
def reading(
    files: Sequence[StoredFile],
    wanted: KeyFilter | None = None,
    min_time_ns: int = -(1 << 63),
    max_time_ns: int = (1 << 63) - 1,
) -> Generator[list[ShardFile]]:
    """Open files for `series_points`, without unwanted blocks."""
    with ExitStack() as stack:
        found: list[ShardFile] = []
        for file in files:
            handle = stack.enter_context(file.path.open("rb"))
            chosen = [
                IndexKey(key, kind, tuple(within))
                for key, kind, entries in file.index
                if (wanted is None or wanted(key))
                and (
                    within := [
                        entry
                        for entry in entries
                        if entry.min_time <= max_time_ns and entry.max_time >= min_time_ns
                    ]
                )
            ]
            deleted = Deletions(file.tombstones)
            found.append((_Chosen(FileSource(handle.fileno()), chosen), deleted))
        yield found


class _Chosen(TSMFile):
    """A file with a part of its index, which is in memory."""

    def __init__(self, source: FileSource, chosen: Sequence[IndexKey]) -> None:
        super().__init__(source)
        self._chosen = chosen

    def index(self) -> Iterator[IndexKey]:
        return iter(self._chosen)


def opened(path: Path) -> StoredFile:
    """Read a file's index and tombstones.

    Raises:
        TSMError: one of them is broken.
    """
    tombstones = path.with_suffix(".tombstone")
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            index = tuple(TSMFile(FileSource(file.fileno())).index())
        for found in index:
            split_key(found.key)
        deleted = parse_tombstones(tombstones.read_bytes()) if tombstones.exists() else ()
    except TSMError as error:
        error.add_note(str(path))
        raise
    return StoredFile(path, status.st_size, status.st_mtime_ns, index, deleted)


def check_file_name(name: str) -> None:
    """Require the name of a TSM file without a directory.

    Raises:
        UnsafeName: the name has another form.
    """
    if not FILE_NAME.fullmatch(name):
        raise UnsafeName(f"{shown(name)} is not the name of a TSM file")


def _deleted(file: StoredFile) -> dict[bytes, list[tuple[int, int]]]:
    ranges: dict[bytes, list[tuple[int, int]]] = {}
    for key, low, high in file.tombstones:
        ranges.setdefault(key, []).append((low, high))
    return ranges
