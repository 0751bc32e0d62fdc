"""The bytes of a TSM file: in memory, in a file, or collected in scratch; and where its index is.

A file has its index at its end, so it is kept until all of it has come.
"""

from __future__ import annotations

import errno
import os
from typing import IO, Protocol, runtime_checkable

from resources.errors import BadMagic, StoreFailed, StoreFull, TSMError
from resources.tsm.layout import FOOTER, HEADER

IN_MEMORY_BYTES = 1 << 20
"""Smaller files stay in memory: most shards of a busy server are."""


@runtime_checkable
class ByteSource(Protocol):
    """Random access to bytes that do not change."""

    @property
    def size(self) -> int: ...

    def pread(self, offset: int, n: int) -> bytes | bytearray | memoryview:
        """Read up to `n` bytes from `offset` on; fewer only at the end."""
        ...


class BytesSource:
    """A file in memory."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._view = memoryview(data).cast("B")

    @property
    def size(self) -> int:
        return self._view.nbytes

    def pread(self, offset: int, n: int) -> memoryview:
        return self._view[offset : offset + n]


class FileSource:
    """An open file, or a part of it; the caller closes the descriptor, and its position is kept.

    Args:
        fd: a readable descriptor of a regular file.
        start: the offset of the part.
        size: the length of the part; None: up to the file's present end.
    """

    def __init__(self, fd: int, *, start: int = 0, size: int | None = None) -> None:
        self._fd = fd
        self._start = start
        self._size = max(os.fstat(fd).st_size - start, 0) if size is None else size

    @property
    def size(self) -> int:
        return self._size

    def pread(self, offset: int, n: int) -> bytes:
        """Read as `ByteSource.pread`.

        Raises:
            StoreFailed: the file system could not read.
        """
        try:
            return os.pread(self._fd, max(min(n, self._size - offset), 0), self._start + offset)
        except OSError as error:
            raise StoreFailed(
                f"reading {n} bytes at offset {self._start + offset} failed: {error.strerror}",
                hint="the disk or its file system may be failing; see the system's log",
            ) from error


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

    def source(self) -> ByteSource:
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


def read_exactly(source: ByteSource, offset: int, n: int) -> bytes:
    """Read `n` bytes; short reads are continued.

    Raises:
        TSMError: the source ends too early.
    """
    data = bytes(source.pread(offset, n))
    while len(data) < n:
        more = bytes(source.pread(offset + len(data), n - len(data)))
        if not more:
            raise TSMError(
                f"the file ends at offset {offset + len(data)}, inside what it announced"
            )
        data += more
    return data


def index_start(source: ByteSource) -> int:
    """Check header and footer; return the offset of the index, which is the end of the blocks.

    Raises:
        BadMagic: the file is not a TSM file of version 1.
        TSMError: the file is too short, or the footer points outside.
    """
    head = bytes(source.pread(0, len(HEADER)))
    if head != HEADER[: len(head)]:
        raise BadMagic(f"the file begins with {head.hex()}, a TSM file with {HEADER.hex()}")
    if source.size < len(HEADER) + FOOTER.size:
        raise TSMError(f"{source.size} bytes, too few for header and footer of a TSM file")
    end = source.size - FOOTER.size
    (start,) = FOOTER.unpack(read_exactly(source, end, FOOTER.size))
    if not len(HEADER) <= start <= end:
        raise TSMError(f"the footer, at offset {end}, puts the index at {start}, outside the file")
    if start == end:
        raise TSMError(f"the index, at offset {start}, is empty")
    return start
