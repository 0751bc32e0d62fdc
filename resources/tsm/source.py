"""Sources of a TSM file's bytes: anything that can be read at an offset; and where its index is."""

from __future__ import annotations

import os
from typing import Protocol, runtime_checkable

from resources.errors import BadMagic, StoreFailed, TSMError
from resources.tsm.layout import FOOTER, HEADER


@runtime_checkable
class Source(Protocol):
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
        """Read as `Source.pread`.

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


def read_exactly(source: Source, offset: int, n: int) -> bytes:
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


def index_start(source: Source) -> int:
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
