"""Objects that are files: sinks and sources over descriptors, and many synced together."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias

from resources.errors import StoreFailed
from resources.repository.formats.names import check_file_name
from resources.repository.storage.deferred_fsync import DeferredFsync
from resources.repository.storage.directory import Directory

BytesLike: TypeAlias = bytes | bytearray | memoryview


class FileSink:
    """A Sink over a file's descriptor."""

    def __init__(self, directory: Directory, fd: int, name: str) -> None:
        self._directory = directory
        self._fd = fd
        self._name = name
        self.size_bytes = 0

    def write(self, data: BytesLike, /) -> None:
        try:
            written = os.write(self._fd, data)
            self.size_bytes += written
            while written < len(data):
                # The disk is nearly full or a signal came; the next write says which.
                more = os.write(self._fd, memoryview(data)[written:])
                written += more
                self.size_bytes += more
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> StoreFailed:
        return self._directory.failed(error, f"writing {self._name} after {self.size_bytes} bytes")


class FileSource:
    """A Source over a file's descriptor."""

    def __init__(self, directory: Directory, fd: int, name: str) -> None:
        self._directory = directory
        self._fd = fd
        self._name = name
        self.size_bytes = os.fstat(fd).st_size

    def read(self, n: int, /) -> bytes:
        with self._directory.doing(f"reading {self._name}"):
            data = os.read(self._fd, n)
            while 0 < len(data) < n:
                more = os.read(self._fd, n - len(data))
                if not more:
                    break
                data += more
        return data

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        view = memoryview(buffer)
        filled = 0
        with self._directory.doing(f"reading {self._name}"):
            while filled < len(view):
                count = os.readv(self._fd, [view[filled:]])
                if count == 0:
                    break
                filled += count
        return filled


class DirectoryBatch:
    """A Batch in a directory: files have their names at once, and are synced behind."""

    def __init__(
        self,
        directory: Directory,
        within: Callable[[], str] = str,
        undo: Callable[[str], None] | None = None,
    ) -> None:
        self._directory = directory
        self._within = within
        self._undo = undo
        self._syncs = DeferredFsync(directory)

    @contextmanager
    def create(self, name: str) -> Generator[FileSink]:
        check_file_name(name)
        if self._directory.exists(name):
            raise self._directory.taken(name)
        inside = self._within()
        with self._directory.pending(name, synced=False, within=inside) as (pending, fd):
            yield FileSink(self._directory, fd, name)
            self._syncs.take(fd, name)
        self._directory.give_name(pending, name, synced=False, undo=self._undo)

    def finish(self) -> None:
        self._syncs.finish()

    def abandon(self) -> None:
        self._syncs.abandon()
