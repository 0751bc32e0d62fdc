"""Tombstones: deletes that a server has not yet applied to a TSM file.

`<name>.tombstone` is next to `<name>.tsm` and holds deletes of that file only. A server ignores it
on a restore, so a restore must remove the deleted points from the TSM file, or they come back.

Layout, integers big-endian, times signed nanoseconds and inclusive:
    v1  keys, one a line: deleted for all time
    v2  00001502 | record *
    v3  00001503 | gzip of record *
    v4  00001504 | { gzip of record * }*       one gzip member per deletion
    record   key length (4) | key | min time (8) | max time (8)

An empty file deletes nothing: servers accept it, since an old bug left such files.

In a damaged file, only records with a matching checksum are applied: a flipped bit in a record
would delete other points. Each gzip member has a checksum and is checked by itself.

Source: influxdb tsdb/engine/tsm1/tombstone.go.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from resources.errors import TSMError
from resources.tsm.layout import MAX_KEY_BYTES, SEPARATOR, shown
from resources.tsm.source import ByteSource, BytesSource

V2, V3, V4 = (bytes.fromhex(magic) for magic in ("00001502", "00001503", "00001504"))
HEADER_BYTES = 4

MIN_TIME_NS, MAX_TIME_NS = -(1 << 63), (1 << 63) - 1
"""The time range of a delete of whole series."""

MAX_INFLATED_BYTES = 1 << 30
"""A million deleted series take about 100 MB."""
MAX_TOMBSTONES = 4_000_000
"""The limit of `parse_tombstones`, which keeps all in memory, about 200 bytes each."""
SUSPICIOUS_BYTES = 8 << 20
MAX_RATIO = 300
"""The largest ratio of inflated to stored bytes after SUSPICIOUS_BYTES; real ones are below 100."""

MAX_FAILURES = 1000
"""How many places of a damaged file are tried for a gzip member, to bound the time."""

_CHUNK_BYTES = 64 << 10
_FIRST_PIECE_BYTES = 256
"""A delete of a few series writes a smaller member."""
_KEY_LENGTH = struct.Struct(">I")
_TIMES = struct.Struct(">qq")
_GZIP = 16 + zlib.MAX_WBITS
_MEMBER = bytes.fromhex("1f8b0800")
"""The head of a gzip member without name or comment, as servers write it."""


class Tombstone(NamedTuple):
    """A deleted range of one key; both times are inclusive."""

    key: bytes
    min_time_ns: int
    max_time_ns: int


def parse_tombstones(data: bytes | bytearray | memoryview) -> tuple[Tombstone, ...]:
    """Read a tombstone file of any version at once, in the order of the deletions.

    Raises:
        TSMError: the file is cut or damaged, inflates too far, or has more than
            MAX_TOMBSTONES; the message has the offset.
    """
    found = tuple(islice(iter_tombstones(data), MAX_TOMBSTONES + 1))
    if len(found) > MAX_TOMBSTONES:
        raise TSMError(
            f"over {MAX_TOMBSTONES} tombstones in {len(data)} bytes",
            hint="let the server compact the shard, which removes them, and try again",
        )
    return found


def iter_tombstones(data: bytes | bytearray | memoryview | ByteSource) -> Iterator[Tombstone]:
    """Yield the records of a tombstone file, with one record and a piece of the file in memory.

    Raises:
        TSMError: as `parse_tombstones`, without a limit of records.
        StoreFailed: the file cannot be read.
    """
    source = data if isinstance(data, ByteSource) else BytesSource(data)
    magic = bytes(source.pread(0, HEADER_BYTES))
    if magic == V4:
        return _records(_inflated(source, members=True))
    if magic == V3:
        return _records(_inflated(source, members=False))
    if magic == V2:
        return _records(_pieces(source))
    if magic[:2] == V2[:2]:
        # Version 1 would accept it as a list of keys, but no key begins like this.
        raise TSMError(f"a tombstone file begins with {magic.hex()}")
    return _lines(source)


def sound_tombstones(source: ByteSource) -> Iterator[Tombstone]:
    """Yield the trustworthy deletes of a damaged file: those of whole gzip members.

    A file that is not compressed has no checksums and yields none; it is older than 2018.
    """
    members, at, failures = _Members(source), _next_member(source, 0), 0
    while at is not None and failures < MAX_FAILURES:
        try:
            for _ in _records(members.inflated(at)):
                pass
        except TSMError:
            at, failures = _next_member(source, at + 1), failures + 1
            continue
        # The member is read twice, since its checksum is at its end.
        yield from _records(members.inflated(at))
        at = _next_member(source, members.end)


def _next_member(source: ByteSource, at: int) -> int | None:
    """The offset at which the next gzip member may begin."""
    while at < source.size:
        piece = bytes(source.pread(at, _CHUNK_BYTES))
        found = piece.find(_MEMBER)
        if found >= 0:
            return at + found
        at += max(len(piece) - len(_MEMBER) + 1, len(_MEMBER))
    return None


def _pieces(source: ByteSource) -> Iterator[bytes]:
    for at in range(HEADER_BYTES, source.size, _CHUNK_BYTES):
        yield bytes(source.pread(at, _CHUNK_BYTES))


def _lines(source: ByteSource) -> Iterator[Tombstone]:
    rest, at = b"", 0
    for begin in range(0, source.size, _CHUNK_BYTES):
        *whole, rest = (rest + bytes(source.pread(begin, _CHUNK_BYTES))).split(b"\n")
        for line in whole:
            yield from _line(line, at)
            at += len(line) + 1
        if len(rest) > MAX_KEY_BYTES + 1:
            yield from _line(rest, at)  # too long for a line
    yield from _line(rest, at)


def _line(line: bytes, at: int) -> Iterator[Tombstone]:
    key = line.removesuffix(b"\r")
    if key:
        # Without this check, any file without a magic number would pass as a list of keys.
        if SEPARATOR not in key or len(key) > MAX_KEY_BYTES:
            raise TSMError(f"neither tombstones nor a key at offset {at}: {shown(key)}")
        yield Tombstone(key, MIN_TIME_NS, MAX_TIME_NS)


def _records(parts: Iterable[bytes]) -> Iterator[Tombstone]:
    pending = b""
    base = 0
    for part in parts:
        pending += part
        at = 0
        while len(pending) - at >= _KEY_LENGTH.size:
            (length,) = _KEY_LENGTH.unpack_from(pending, at)
            if not 0 < length <= MAX_KEY_BYTES:
                raise TSMError(f"a key of {length} bytes in record at byte {base + at}")
            times_at = at + _KEY_LENGTH.size + length
            if times_at + _TIMES.size > len(pending):
                break
            times = _TIMES.unpack_from(pending, times_at)
            yield Tombstone(pending[at + _KEY_LENGTH.size : times_at], *times)
            at = times_at + _TIMES.size
        pending = pending[at:]
        base += at
    if pending:
        raise TSMError(f"tombstones end inside the record at byte {base}")


def _inflated(source: ByteSource, *, members: bool) -> Iterator[bytes]:
    reader, at = _Members(source), HEADER_BYTES
    while at < source.size:
        if at > HEADER_BYTES and not members:
            raise TSMError(f"bytes after the compressed tombstones, at offset {at}")
        yield from reader.inflated(at)
        at = reader.end


class _Members:
    """Inflates the gzip members of one file, with one limit for all of them.

    Attributes:
        end: the offset after the last member.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._inflated = 0
        self.end = 0

    def inflated(self, start: int) -> Iterator[bytes]:
        """Yield one member in pieces, which grow: zlib copies the unused rest of each piece.

        Raises:
            TSMError: the member is cut or damaged, or inflates too far.
        """
        size = self._source.size
        at, rest, piece_bytes = start, b"", _FIRST_PIECE_BYTES
        stream = zlib.decompressobj(_GZIP)
        while not stream.eof:
            chunk = rest or bytes(self._source.pread(at, piece_bytes))
            if not chunk:
                raise TSMError(f"compressed tombstones from offset {start} on are cut at {at}")
            if not rest:
                at += len(chunk)
                piece_bytes = min(piece_bytes * 4, _CHUNK_BYTES)
            try:
                out = stream.decompress(chunk, _CHUNK_BYTES * 4)
            except zlib.error as error:
                raise TSMError(
                    f"compressed tombstones at offset {start} are damaged: {error}"
                ) from None
            rest = stream.unconsumed_tail
            self._inflated += len(out)
            if self._inflated > MAX_INFLATED_BYTES or (
                self._inflated > SUSPICIOUS_BYTES and self._inflated > MAX_RATIO * size
            ):
                raise TSMError(
                    f"{size} bytes of tombstones inflate to over {self._inflated}, at offset {at}"
                )
            yield out
        self.end = at - len(stream.unused_data)
