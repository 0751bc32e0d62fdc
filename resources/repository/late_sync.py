"""Files made durable side by side, behind the writing of the next ones.

Who waits for the disk after each of a thousand small files waits a thousand times; what
several threads ask for at once, the file system writes in one go.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

from resources.repository.directory import Directory

PARALLEL = 8
MOST_OPEN = 32
"""Descriptors that wait for their turn; with more, who writes waits too."""


class LateSyncs:
    """Syncs files of one directory in threads; safe to share between threads.

    Each file is synced through a descriptor that was open while it was written: one that is
    opened later need not hear of an error in between.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="sync")
        self._room = threading.BoundedSemaphore(MOST_OPEN)
        self._failed: BaseException | None = None

    def take(self, fd: int, name: str) -> None:
        """Sync `fd` soon; it is copied and may be closed.

        Raises:
            StoreFailed: an earlier file could not be synced.
        """
        self._room.acquire()
        try:
            if self._failed is not None:
                raise self._failed
            with self._directory.told(f"syncing {name}"):
                mine = os.dup(fd)
            try:
                self._pool.submit(self._sync, mine, name)
            except BaseException:
                os.close(mine)
                raise
        except BaseException:
            self._room.release()
            raise

    def finish(self) -> None:
        """Wait until every file and its name are durable; nothing can be taken after that.

        Raises:
            StoreFailed: one of them could not be synced.
        """
        self._pool.shutdown(wait=True)
        if self._failed is not None:
            raise self._failed
        self._directory.sync()

    def abandon(self) -> None:
        """Wait for what is under way; nothing of it is needed any more."""
        self._pool.shutdown(wait=True)

    def _sync(self, fd: int, name: str) -> None:
        try:
            if self._failed is None:
                self._directory.sync_file(fd, name)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the file is not durable
            self._failed = error
        finally:
            os.close(fd)
            self._room.release()
