"""Files made durable side by side, behind the writing of the next ones.

Who waits for the disk after each of a thousand small files waits a thousand times; what
several threads ask for at once, the file system writes in one go.
"""

from __future__ import annotations

import os
import queue

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
