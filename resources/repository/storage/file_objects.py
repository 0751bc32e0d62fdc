"""Objects that are files: sinks and sources over descriptors, and many synced together.

A run that waits for the disk after each of a thousand small files waits a thousand times. Several
threads sync side by side, behind the writing of the next files, and the file system writes in one
go what they ask for at once.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias

from resources.errors import StoreFailed
from resources.repository.formats.names import check_file_name
from resources.repository.storage.directory import Directory
from resources.runtime.workers import WorkerGroup

PARALLEL = 8
MAX_OPEN = 32
"""Descriptors that wait for their turn; with more, who writes waits too."""


class DeferredFsync:
    """Syncs files of one directory in threads; safe to share between threads.

    Each file is synced through a descriptor that was open while it was written: one that is
    opened later need not hear of an error in between.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._waiting: queue.SimpleQueue[tuple[int, str] | None] = queue.SimpleQueue()
        self._slots: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(MAX_OPEN):
            self._slots.put(None)
        self._workers = WorkerGroup("sync", self._keep_syncing)
        self._failed: BaseException | None = None

    def take(self, fd: int, name: str) -> None:
        """Sync `fd` soon; it is copied and may be closed.

        Raises:
            StoreFailed: an earlier file could not be synced.
        """
        self._slots.get()
        try:
            if self._workers.over:
                raise RuntimeError("everything is synced; nothing more is taken")
            if self._failed is not None:
                raise self._failed
            with self._directory.doing(f"syncing {name}"):
                mine = os.dup(fd)
        except BaseException:
            self._slots.put(None)
            raise
        self._waiting.put((mine, name))
        self._workers.begin(PARALLEL)

    def finish(self) -> None:
        """Wait until every file and its name are durable; nothing can be taken after that.

        Raises:
            StoreFailed: one of them could not be synced.
        """
        self.abandon()
        if self._failed is not None:
            raise self._failed
        self._directory.sync()

    def abandon(self) -> None:
        """Wait for what is under way."""
        self._waiting.put(None)
        self._workers.end()
        self._keep_syncing()  # what no thread has begun with

    def _keep_syncing(self) -> None:
        while (one := self._waiting.get()) is not None:
            self._sync(*one)
        self._waiting.put(None)  # for the others

    def _sync(self, fd: int, name: str) -> None:
        try:
            try:
                if self._failed is None:
                    self._directory.sync_file(fd, name)
            finally:
                with self._directory.doing(f"closing {name}"):
                    os.close(fd)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the file is not durable
            self._failed = error
        finally:
            self._slots.put(None)


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
