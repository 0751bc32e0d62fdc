"""gzip files, written at the speed of the disk and read within bounds.

Layout of a member (a file is one member, or several in a row):
    1f 8b 08 | flags | mtime 4 | extra flags | system | extra field, name, comment as flagged |
    deflate blocks | CRC-32 of the content, 4 | length of the content mod 2^32, 4
Numbers are little-endian. influxd names its members after the file, `<backup>.s<id>.tar`.

isal deflates archives of TSM files seven times as fast as zlib; zlib serves where isal is missing.

Source: RFC 1951 (stored blocks: 3.2.4), RFC 1952.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Literal, Protocol, TypeAlias, cast

from resources.errors import ArchiveCorrupt
from resources.tsm.crc import crc32

try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None

Level: TypeAlias = Literal["default", "full", "speedy", "none"]
"""As `-gzipCompressionLevel` takes them. "default" and "speedy": isal 1, and dense blocks
stored as they are. "full": zlib 6 for every block; zlib 9 is 0.2 % smaller for 2.6 times the
work. "none": every block stored."""

BytesLike: TypeAlias = bytes | bytearray | memoryview

_RAW = -zlib.MAX_WBITS


class Deflater(Protocol):
    """What zlib and isal agree on."""

    def compress(self, data: BytesLike, /) -> bytes: ...
    def flush(self, mode: int = ..., /) -> bytes: ...


class Inflater(Protocol):
    """What zlib and isal agree on."""

    @property
    def eof(self) -> bool: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: BytesLike, /, max_length: int = ...) -> bytes: ...


class _Library(Protocol):
    error: type[Exception]

    def compress(self, data: BytesLike, /, level: int = ..., wbits: int = ...) -> bytes: ...
    def compressobj(self, level: int = ..., method: int = ..., wbits: int = ...) -> Deflater: ...
    def decompressobj(self, wbits: int = ...) -> Inflater: ...


_fast = cast(_Library, isal_zlib or zlib)  # isal's stubs know no buffers

InflateError: type[Exception] = _fast.error


def deflater(level: Level) -> Deflater:
    """A compressor of raw deflate for a stream; "none" needs none."""
    if level == "full":
        return zlib.compressobj(6, zlib.DEFLATED, _RAW)
    return _fast.compressobj(1, zlib.DEFLATED, _RAW)


def deflated(sample: memoryview) -> bytes:
    """A sample at the speed level, to see how much it shrinks."""
    return _fast.compress(sample, 1, _RAW)


def inflater() -> Inflater:
    """A decompressor of raw deflate, bounded by `max_length`."""
    return _fast.decompressobj(_RAW)


__all__ = ["GzipReader", "GzipWriter", "Level"]

DECISION_BYTES = 256 * 1024
"""How much input one look at its density decides about."""
MAX_DOUBLINGS = 2
"""Looks that find the same again decide about up to a megabyte."""
EARLY_BYTES = 64 * 1024
"""Content that ends within is deflated at once, and needs no samples."""
SAMPLE_BYTES = 8 * 1024
DENSE = 0.93
"""Blocks whose samples stay above this are not worth deflating."""
INPUT_BYTES = 128 * 1024
MAX_HEADER_BYTES = 64 * 1024
MAX_EMPTY_MEMBERS = 64

_HINT = "restore an older backup, or take another copy of this file"
_MAX_STORED = 0xFFFF
_LAST_BLOCK = b"\x03\x00"  # final, fixed codes, nothing but its end
_UNKNOWN_SYSTEM = 255
_FHCRC, _FEXTRA, _FNAME, _FCOMMENT, _RESERVED = 2, 4, 8, 16, 0xE0


class GzipWriter:
    """Writes one gzip member.

    Compressed data is full of noise where values are; a block that does not shrink is
    stored as it is, which costs less and inflates faster.

    Args:
        sink: takes what is to be written; a buffer is only valid during the call.
        level: how hard to try.
        filename: the name inside, ASCII; informative, readers ignore it.
        mtime: seconds since 1970; 0 says nothing.
        proven: inflate again at once what was compressed. Compressors have had bugs, and memory
            has errors; both are found when the archive is read, which may be too late.

    Raises (from `close`, if `proven`):
        ArchiveCorrupt: what was written does not inflate to what was taken in.
    """

    def __init__(
        self,
        sink: Callable[[BytesLike], object],
        *,
        level: Level = "default",
        filename: str = "",
        mtime: int = 0,
        proven: bool = False,
    ) -> None:
        self.size_bytes = 0
        """Bytes taken in."""
        self.crc32 = 0
        """Of the bytes taken in."""
        self._sink = sink
        self._level = level
        self._deflate = deflater(level)
        self._proof = _Proof() if proven else None
        self._stores = level == "none"
        self._decided_bytes = 0  # of the input to come that the decision is good for
        self._same = 0  # looks in a row that found what the one before did
        self._run = False  # whether the compressor may hold something back
        flags = _FNAME if filename else 0
        self._head = struct.pack("<BBBBLBB", 0x1F, 0x8B, 8, flags, mtime, 0, _UNKNOWN_SYSTEM) + (
            filename.encode("ascii") + b"\0" if filename else b""
        )
        self._early: bytearray | None = bytearray()  # all of the input, while it is short

    def write(self, data: BytesLike) -> None:
        """Take more content; `data` may be reused when the call returns."""
        view = memoryview(data)
        self.crc32 = crc32(view, self.crc32)
        self.size_bytes += len(view)
        if self._early is not None:
            if self.size_bytes <= EARLY_BYTES:
                self._early += view
                return
            early, self._early = self._early, None
            self._sink(self._head)
            self._take(memoryview(early))
        self._take(view)

    def close(self) -> None:
        """Finish the member; the writer is of no further use."""
        trailer = struct.pack("<LL", self.crc32, self.size_bytes & 0xFFFFFFFF)
        if self._early is None:
            self._emit(self._deflate.flush(zlib.Z_FINISH) if self._run else _LAST_BLOCK)
            if self._proof is not None:
                self._proof.check()
            self._sink(trailer)
            return
        whole = b""
        if not self._stores:
            whole = self._deflate.compress(self._early) + self._deflate.flush(zlib.Z_FINISH)
        dense = self._level != "full" and len(whole) > DENSE * self.size_bytes
        if self._stores or dense:
            parts = [part for pair in _stored(memoryview(self._early)) for part in pair]
            whole = b"".join([*parts, _LAST_BLOCK])
        elif self._proof is not None:
            self._proof.expect(self._early)
            self._proof.take(whole)
            self._proof.check()
        self._sink(self._head + whole + trailer)

    def _take(self, view: memoryview) -> None:
        while len(view):
            if not self._decided_bytes:
                self._decide(view)
            part = view[: self._decided_bytes] if self._decided_bytes else view
            self._decided_bytes = max(0, self._decided_bytes - len(part))
            if self._stores:
                self._store(part)
            else:
                self._run = True
                if self._proof is not None:
                    self._proof.expect(part)
                self._emit(self._deflate.compress(part))
            view = view[len(part) :]

    def _decide(self, view: memoryview) -> None:
        """Store or deflate what comes next? Too little to tell leaves it as it was."""
        block = view[:DECISION_BYTES]
        if self._level in ("none", "full") or len(block) < 2 * SAMPLE_BYTES:
            return
        start = len(block) // 4 - SAMPLE_BYTES // 2
        shrunk_bytes = sum(
            len(deflated(block[at : at + SAMPLE_BYTES]))
            for at in (start, len(block) - start - SAMPLE_BYTES)
        )
        stores = shrunk_bytes > DENSE * 2 * SAMPLE_BYTES
        self._same = self._same + 1 if stores == self._stores else 0
        self._stores = stores
        self._decided_bytes = DECISION_BYTES << min(self._same, MAX_DOUBLINGS)

    def _store(self, view: memoryview) -> None:
        if self._run:
            # A full flush ends on a byte's edge, and nothing later refers to before it.
            self._emit(self._deflate.flush(zlib.Z_FULL_FLUSH))
            self._run = False
        # A copy costs less than a call for each piece.
        self._sink(b"".join([piece for pair in _stored(view) for piece in pair]))

    def _emit(self, data: bytes) -> None:
        if data:
            if self._proof is not None:
                self._proof.take(data)
            self._sink(data)


class _Proof:
    """Inflates what a compressor gave, a chunk at a time, and compares it with what it was given.

    Stored blocks are left out: between full flushes, what is deflated is a stream without them.
    """

    def __init__(self) -> None:
        self._inflate = inflater()
        self._given = self._found = (0, 0)  # bytes and CRC-32
        self._trouble = ""

    def expect(self, part: BytesLike) -> None:
        size_bytes, checksum = self._given
        self._given = size_bytes + len(part), crc32(part, checksum)

    def take(self, data: bytes) -> None:
        try:
            while not (self._trouble or self._inflate.eof):
                chunk = self._inflate.decompress(data, DECISION_BYTES)
                size_bytes, checksum = self._found
                self._found = size_bytes + len(chunk), crc32(chunk, checksum)
                data = self._inflate.unconsumed_tail
                if len(chunk) < DECISION_BYTES and not data:
                    return
        except InflateError as error:
            self._trouble = str(error)

    def check(self) -> None:
        if self._trouble or self._found != self._given or not self._inflate.eof:
            raise ArchiveCorrupt(
                "what was compressed does not inflate to what arrived"
                + (f" ({self._trouble})" if self._trouble else ""),
                hint="look for memory errors of this machine; -gzipCompressionLevel none does "
                "without the compressor",
            )


def _stored(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Stored blocks, none of them the last: the head of each, and its bytes."""
    for at in range(0, len(view), _MAX_STORED):
        block = view[at : at + _MAX_STORED]
        yield struct.pack("<BHH", 0, len(block), len(block) ^ 0xFFFF), block


class GzipReader:
    """Inflates a gzip file, never holding more than one chunk of it.

    Args:
        source: returns the next n bytes at most, none at the end.
        max_bytes: how long the content may be; more is refused before it is inflated.

    Raises (from `read_chunks`):
        ArchiveCorrupt: no gzip, cut, broken, longer than allowed, or followed by anything
            but another member.
    """

    def __init__(self, source: Callable[[int], bytes], *, max_bytes: int | None = None) -> None:
        self.size_bytes = 0
        """Bytes inflated so far."""
        self._source = source
        self._max_bytes = max_bytes
        self._taken = 0  # bytes got from the source
        self._input = b""

    def read_chunks(self, max_chunk: int = DECISION_BYTES) -> Iterator[memoryview]:
        """The content, in pieces of at most `max_chunk` bytes; to be called once."""
        if not self._fill():
            raise ArchiveCorrupt("archive is empty: 0 bytes", hint=_HINT)
        empty = 0
        while self._input or self._fill():
            before = self.size_bytes
            self._header()
            yield from self._member(max_chunk)
            empty = 0 if self.size_bytes > before else empty + 1
            if empty > MAX_EMPTY_MEMBERS:
                raise self._corrupt(f"more than {MAX_EMPTY_MEMBERS} empty gzip members in a row")

    def _member(self, max_chunk: int) -> Iterator[memoryview]:
        inflate = inflater()
        start = self.size_bytes
        checksum = 0
        while not inflate.eof:
            if not self._input and not self._fill():
                raise self._ended("inside its compressed data")
            limit = max_chunk
            if self._max_bytes is not None:
                limit = min(limit, self._max_bytes - self.size_bytes + 1)
            more = True
            while more and not inflate.eof:
                chunk = self._inflated(inflate, limit)
                more = len(chunk) == limit
                if chunk:
                    self.size_bytes += len(chunk)
                    if self._max_bytes is not None and self.size_bytes > self._max_bytes:
                        raise self._corrupt(f"more content than the {self._max_bytes} bytes due")
                    checksum = crc32(chunk, checksum)
                    yield memoryview(chunk)
        expected, length = struct.unpack("<LL", self._exactly(8, "inside its checksum"))
        if checksum != expected:
            raise self._corrupt(f"content whose CRC-32 is {checksum:08x}, not {expected:08x}")
        if (self.size_bytes - start) & 0xFFFFFFFF != length:
            raise self._corrupt(f"{self.size_bytes - start} bytes of content, not {length}")

    def _inflated(self, inflate: Inflater, limit: int) -> bytes:
        try:
            chunk = inflate.decompress(self._input, limit)
        except InflateError as error:
            raise self._corrupt(f"compressed data that cannot be inflated ({error})") from None
        self._input = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
        return chunk

    def _header(self) -> None:
        where = "inside its gzip header"
        at = self._taken - len(self._input)
        if at and self._input[:2] != b"\x1f\x8b"[: len(self._input)]:
            raise ArchiveCorrupt(f"archive has bytes after its end, at byte {at} of the file")
        fixed = self._exactly(10, where)
        if fixed[:2] != b"\x1f\x8b":
            raise ArchiveCorrupt(f"archive is no gzip file: it begins with {fixed[:4].hex(' ')}")
        method, flags = fixed[2], fixed[3]
        if method != 8 or flags & _RESERVED:
            raise self._corrupt(f"a gzip header of method {method} with flags {flags:#04x}")
        header = bytearray(fixed)
        if flags & _FEXTRA:
            header += self._exactly(2, where)
            header += self._exactly(int.from_bytes(header[-2:], "little"), where)
        for flag in (_FNAME, _FCOMMENT):
            if flags & flag:
                header += self._text(where)
        if flags & _FHCRC:
            expected = int.from_bytes(self._exactly(2, where), "little")
            if crc32(header) & 0xFFFF != expected:
                raise self._corrupt("a gzip header whose checksum does not fit")

    def _text(self, where: str) -> bytes:
        while b"\0" not in self._input:
            if len(self._input) > MAX_HEADER_BYTES:
                raise self._corrupt(f"a gzip header longer than {MAX_HEADER_BYTES} bytes")
            if not self._fill():
                raise self._ended(where)
        text, _, self._input = self._input.partition(b"\0")
        return text + b"\0"

    def _exactly(self, n: int, where: str) -> bytes:
        while len(self._input) < n:
            if not self._fill():
                raise self._ended(where)
        data, self._input = self._input[:n], self._input[n:]
        return data

    def _fill(self) -> bool:
        data = self._source(INPUT_BYTES)
        self._taken += len(data)
        self._input += data
        return bool(data)

    def _corrupt(self, what: str) -> ArchiveCorrupt:
        at = self._taken - len(self._input)
        return ArchiveCorrupt(f"archive has {what}, before byte {at} of the file", hint=_HINT)

    def _ended(self, where: str) -> ArchiveCorrupt:
        return ArchiveCorrupt(
            f"archive ended {where}, at byte {self._taken} of the file, "
            f"after {self.size_bytes} bytes of content",
            hint=_HINT,
        )
