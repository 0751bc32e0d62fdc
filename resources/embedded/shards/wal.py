"""The log of a shard's writes and deletes since its last TSM file, for restarts after a kill.

Layout, integers big-endian:
    entry   CRC-32 of kind and body (4) | length of body (4) | kind (1) | body
    kinds   1 points: line protocol, times in nanoseconds
            2 a deletion: { key length (4) | key | min time (8) | max time (8) }*

The last entry may be cut, which means that it was never acknowledged; reading stops there.
The format is ours, not that of the server's WAL (tsdb/engine/tsm1/wal.go).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from resources.embedded.shards.line_protocol import parse_lines
from resources.embedded.shards.points import Point
from resources.tsm.crc import crc32
from resources.tsm.layout import MAX_KEY_BYTES
from resources.tsm.tombstone import Tombstone

_HEAD = struct.Struct(">IIB")
_CHECKED = struct.Struct(">B")
_KEY_LENGTH = struct.Struct(">I")
_TIMES = struct.Struct(">qq")
_POINTS, _DELETION = 1, 2
MAX_ENTRY_BYTES = 1 << 30


class WAL:
    """One file, which grows until its entries are in a TSM file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)

    @property
    def size_bytes(self) -> int:
        return 0 if self._file.closed else os.fstat(self._file.fileno()).st_size

    def append_points(self, points: Sequence[Point]) -> None:
        body = b"\n".join([b"%b %b %d" % (p.series, p.text, p.time_ns) for p in points])
        self._append(_POINTS, body)

    def append_deletion(self, deleted: Iterable[Tombstone]) -> None:
        self._append(_DELETION, packed(deleted))

    def clear(self) -> None:
        """Remove all entries; the file stays."""
        self._file.truncate(0)

    def close(self) -> None:
        self._file.close()

    def _append(self, kind: int, body: bytes) -> None:
        crc = crc32(body, crc32(_CHECKED.pack(kind), 0))
        # A single write: a kill between two would cut the entry, and lose all that follow it.
        self._file.write(_HEAD.pack(crc, len(body), kind) + body)


def replayed(path: Path) -> Iterator[list[Point] | list[Tombstone]]:
    """Yield the complete entries of a WAL in order; truncates the file after them."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        whole = 0
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            crc, length, kind = _HEAD.unpack(head)
            body = file.read(length) if length <= MAX_ENTRY_BYTES else b""
            if len(body) != length or crc32(body, crc32(_CHECKED.pack(kind), 0)) != crc:
                break
            whole = file.tell()
            if kind == _POINTS:
                yield parse_lines(body, now_ns=0, unsigned=True).points
            else:
                yield list(_unpacked(body))
        if os.fstat(file.fileno()).st_size != whole:
            file.truncate(whole)


def packed(deleted: Iterable[Tombstone]) -> bytes:
    """Encode records in the form of tombstone files."""
    return b"".join(
        _KEY_LENGTH.pack(len(key)) + key + _TIMES.pack(low, high) for key, low, high in deleted
    )


def _unpacked(body: bytes) -> Iterator[Tombstone]:
    at = 0
    while at + _KEY_LENGTH.size <= len(body):
        (length,) = _KEY_LENGTH.unpack_from(body, at)
        times_at = at + _KEY_LENGTH.size + length
        if length > MAX_KEY_BYTES or times_at + _TIMES.size > len(body):
            return
        yield Tombstone(body[at + _KEY_LENGTH.size : times_at], *_TIMES.unpack_from(body, times_at))
        at = times_at + _TIMES.size
