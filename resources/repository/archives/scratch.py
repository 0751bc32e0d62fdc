"""Room for one TSM file at a time, so that its blocks can be checked once its index is known."""

from __future__ import annotations

import errno
import os
from typing import IO

from resources.errors import StoreFailed, StoreFull
from resources.tsm.source import BytesSource, FileSource, Source

IN_MEMORY_BYTES = 1 << 20
"""Smaller files stay in memory: most shards of a busy server are."""


def temporary_file(directory: str | None) -> IO[bytes]:
    """A file without a name, which the system frees even if we are killed.

    It lies where TMPDIR says; else in `directory`, where there must be room for archives
    anyway; else, if nothing can be written there, where the system keeps such files.

    Raises:
        OSError: the directory cannot be written to.
    """
    import tempfile  # a backup that finds nothing to do needs no scratch space

    directory = os.environ.get("TMPDIR") or directory
    try:
        return tempfile.TemporaryFile(dir=directory)
    except OSError as error:
        if directory is None or error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        return tempfile.TemporaryFile()


class Scratch:
    """Holds the bytes of one file; reused for the next, so a connection needs it once.

    A large file goes to a `temporary_file`.

    Raises:
        StoreFull, StoreFailed: the temporary file could not be written.
    """

    def __init__(self, directory: str | None = None) -> None:
        self.directory = directory
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._in_memory = True
        self._length = 0

    def start(self, size_bytes: int) -> None:
        """Begin a file of `size_bytes`; what was held before is gone."""
        self._length = 0
        self._in_memory = size_bytes <= IN_MEMORY_BYTES
        if self._in_memory:
            if len(self._memory) < size_bytes:
                self._memory = bytearray(size_bytes)
            return
        if self._file is None:
            # Never truncated: writing over pages costs half of giving them back and asking anew.
            try:
                self._file = temporary_file(self.directory)
            except OSError as error:
                raise self._refused(error) from None

    def write(self, piece: memoryview) -> None:
        end = self._length + len(piece)
        if self._in_memory:
            self._memory[self._length : end] = piece
        else:
            assert self._file is not None  # noqa: S101 - start() opened it
            try:
                done = 0
                while done < len(piece):
                    done += os.pwrite(self._file.fileno(), piece[done:], self._length + done)
            except OSError as error:
                raise self._refused(error) from None
        self._length = end

    def source(self) -> Source:
        """What was written, for random access; valid until the next `start`."""
        if self._in_memory:
            return BytesSource(memoryview(self._memory)[: self._length])
        assert self._file is not None  # noqa: S101 - start() opened it
        return FileSource(self._file.fileno(), size=self._length)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _refused(self, error: OSError) -> StoreFailed:
        import tempfile

        where = self.directory or tempfile.gettempdir()
        what = f"{where}: writing a temporary file: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return StoreFull(
                what, hint="point TMPDIR at a place with room for the largest TSM file (2 GB)"
            )
        return StoreFailed(what, hint="point TMPDIR at a directory that can be written to")
