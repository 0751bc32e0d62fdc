"""Tombstones: what was deleted from a TSM file but is still in it.

`<name>.tombstone` lies beside `<name>.tsm` and speaks of that file alone. A restoring server
ignores it, so whoever restores must take the deleted points out, or they come back.

Layout, integers big-endian, times signed nanoseconds and inclusive:
    v1  keys, one a line: gone altogether
    v2  00001502 | record *
    v3  00001503 | gzip of record *
    v4  00001504 | { gzip of record * }*       one gzip member per deletion
    record   key length (4) | key | min time (8) | max time (8)

An empty file deletes nothing: servers read it so, since an old bug left such files.

Of a damaged file, only what a checksum covers is applied: a flipped bit in a record would delete
points that nobody deleted. A gzip member has one, and each is judged alone.

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
from resources.tsm.source import BytesSource, Source

V2, V3, V4 = (bytes.fromhex(magic) for magic in ("00001502", "00001503", "00001504"))
HEADER_BYTES = 4

MIN_TIME_NS, MAX_TIME_NS = -(1 << 63), (1 << 63) - 1
"""What a deletion of whole series says."""

MAX_INFLATED_BYTES = 1 << 30
"""A million deleted series take about 100 MB."""
MAX_TOMBSTONES = 4_000_000
"""That `parse_tombstones` holds at once, with about 200 bytes each."""
SUSPICIOUS_BYTES = 8 << 20
MAX_RATIO = 300
"""Inflated to stored, once SUSPICIOUS_BYTES are passed; real ones stay below 100."""

MAX_FAILURES = 1000
"""Of places in a damaged file where a gzip member might begin, so that none takes for ever."""

_CHUNK_BYTES = 64 << 10
_FIRST_PIECE_BYTES = 256
"""A delete of a few series makes a member that is smaller."""
_KEY_LENGTH = struct.Struct(">I")
_TIMES = struct.Struct(">qq")
_GZIP = 16 + zlib.MAX_WBITS
_MEMBER = bytes.fromhex("1f8b0800")
"""A member without a name or comment, as servers write them."""


class Tombstone(NamedTuple):
    """A deleted range of one key; both times are inside."""

    key: bytes
    min_time_ns: int
    max_time_ns: int


def parse_tombstones(data: bytes | bytearray | memoryview) -> tuple[Tombstone, ...]:
    """Read a tombstone file of any version at once, in the order of the deletions.

    Raises:
        TSMError: cut, damaged, inflating beyond belief, or more than MAX_TOMBSTONES; the
            message has the offset.
    """
    found = tuple(islice(iter_tombstones(data), MAX_TOMBSTONES + 1))
    if len(found) > MAX_TOMBSTONES:
        raise TSMError(
            f"over {MAX_TOMBSTONES} tombstones in {len(data)} bytes",
            hint="let the server compact the shard, which removes them, and try again",
        )
    return found


def iter_tombstones(data: bytes | bytearray | memoryview | Source) -> Iterator[Tombstone]:
    """Walk a tombstone file; one record and a piece of the file are held at a time.

    Raises:
        TSMError: as `parse_tombstones`, but for the number of tombstones.
        StoreFailed: the file cannot be read.
    """
    source = data if isinstance(data, Source) else BytesSource(data)
    magic = bytes(source.pread(0, HEADER_BYTES))
    if magic == V4:
        return _records(_inflated(source, members=True))
    if magic == V3:
        return _records(_inflated(source, members=False))
    if magic == V2:
        return _records(_pieces(source))
    if magic[:2] == V2[:2]:
        # As a list of keys it would pass, too: no key begins so.
        raise TSMError(f"a tombstone file begins with {magic.hex()}")
    return _lines(source)


def sound_tombstones(source: Source) -> Iterator[Tombstone]:
    """The deletes of a damaged file that can be trusted: gzip members that are whole.

    A file without checksums has none that can; what is not compressed is older than 2018.
    """
    members, at, failures = _Members(source), _next_member(source, 0), 0
    while at is not None and failures < MAX_FAILURES:
        try:
            for _ in _records(members.inflated(at)):
                pass
        except TSMError:
            at, failures = _next_member(source, at + 1), failures + 1
            continue
        # Read twice, since the checksum stands at the end.
        yield from _records(members.inflated(at))
        at = _next_member(source, members.end)


def _next_member(source: Source, at: int) -> int | None:
    """Where the next gzip member may begin."""
    while at < source.size:
        piece = bytes(source.pread(at, _CHUNK_BYTES))
        found = piece.find(_MEMBER)
        if found >= 0:
            return at + found
        at += max(len(piece) - len(_MEMBER) + 1, len(_MEMBER))
    return None


def _pieces(source: Source) -> Iterator[bytes]:
    for at in range(HEADER_BYTES, source.size, _CHUNK_BYTES):
        yield bytes(source.pread(at, _CHUNK_BYTES))


def _lines(source: Source) -> Iterator[Tombstone]:
    rest, at = b"", 0
    for begin in range(0, source.size, _CHUNK_BYTES):
        *whole, rest = (rest + bytes(source.pread(begin, _CHUNK_BYTES))).split(b"\n")
        for line in whole:
            yield from _line(line, at)
            at += len(line) + 1
        if len(rest) > MAX_KEY_BYTES + 1:
            yield from _line(rest, at)  # no line is as long as this
    yield from _line(rest, at)


def _line(line: bytes, at: int) -> Iterator[Tombstone]:
    key = line.removesuffix(b"\r")
    if key:
        # Any file without a magic number would pass as a list of keys.
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


def _inflated(source: Source, *, members: bool) -> Iterator[bytes]:
    reader, at = _Members(source), HEADER_BYTES
    while at < source.size:
        if at > HEADER_BYTES and not members:
            raise TSMError(f"bytes after the compressed tombstones, at offset {at}")
        yield from reader.inflated(at)
        at = reader.end


class _Members:
    """Inflates gzip members of one file, all of them within one bound.

    Attributes:
        end: where the last member ended.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._inflated = 0
        self.end = 0

    def inflated(self, start: int) -> Iterator[bytes]:
        """One member, piece by piece. A piece grows with it: zlib copies what follows one.

        Raises:
            TSMError: it is cut, damaged, or inflates beyond belief.
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
