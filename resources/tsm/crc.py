"""CRC-32 (IEEE) of buffers; by isal if it is installed, else by zlib."""

from __future__ import annotations

import zlib
from typing import Protocol, TypeAlias, cast

try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None

BytesLike: TypeAlias = bytes | bytearray | memoryview


class _Crc32(Protocol):
    def __call__(self, data: BytesLike, value: int = 0, /) -> int: ...


class _Library(Protocol):
    @property
    def crc32(self) -> _Crc32: ...


crc32 = cast(_Library, isal_zlib or zlib).crc32  # isal's type stubs do not accept buffers
