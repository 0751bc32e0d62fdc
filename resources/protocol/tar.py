"""Parses the tar stream of a shard as it arrives.

Stream, in blocks of 512 bytes:
    member: header | data | zeros up to the next block
    extension before a member: header of type x (PAX records) or L (long name) | its payload
    end: two zero blocks; influxd writes exactly these, other tools may pad with more zeros

`tarfile` does not serve here: like Go's reader, it takes an archive that is cut between two
members for a complete one, and the snapshotter reports its errors by cutting. Here only the end
marker ends an archive.

Layout of a header (ustar; the numbers octal, or base-256 when the first bit is set):
    name 100 | mode 8 | uid 8 | gid 8 | size 12 | mtime 12 | checksum 8 | type 1 |
    link name 100 | magic and version 8 | user 32 | group 32 | device 16 | prefix 155 | 0 12

Source: influxd services/snapshotter/service.go; tsdb/engine/tsm1/engine.go, Backup; POSIX pax,
"ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import re
import tarfile
import unicodedata
from collections.abc import Callable, Iterator
from typing import TypeAlias

from msgspec import Struct

from resources.errors import ArchiveCorrupt, UnsafeName, shown

BLOCK = 512
END_MARKER = bytes(2 * BLOCK)
"""The exact end: influxd stops reading here, and further bytes would reset the connection."""

MAX_NAME_BYTES = 1024

_POSIX_MAGIC = b"ustar\x0000"
_GNU_MAGIC = b"ustar  \x00"
_MAX_OCTAL_SIZE = 8**11
_MAX_INSTANT_S = 2**40
"""The year 36812; current file systems can store it."""
_KINDS = {
    "1": "a hard link",
    "2": "a symbolic link",
    "3": "a character device",
    "4": "a block device",
    "5": "a directory",
    "6": "a FIFO",
    "7": "a contiguous file",
    "D": "a GNU directory dump",
    "K": "a GNU long link",
    "M": "a part of a multi-volume archive",
    "N": "an old GNU long name",
    "S": "a sparse file",
    "V": "a volume label",
    "g": "a global PAX header",
}


class BadHeader(ArchiveCorrupt):
    """A header that is broken or not allowed; the message is a noun phrase."""


class Header(Struct, frozen=True):
    """A header block with checked numbers and checksum."""

    kind: str
    """"0": a regular file, "x": PAX records follow, "L": a long name follows, or another."""
    name: str
    size: int
    mode: int
    mtime_s: int

    def check_regular(self, name: str) -> None:
        """Require a regular file; `name` is the member's full name.

        Raises:
            BadHeader: the member is not a regular file.
        """
        if self.kind != "0":
            kind = _KINDS.get(self.kind, f"a member of the unknown type {shown(self.kind)}")
            raise BadHeader(f"{kind}, {shown(name)}; only regular files are accepted")
        if self.mode & 0o7000:
            raise BadHeader(f"a member with a setuid, setgid or sticky bit, {shown(name)}")


def decode_header(block: bytes) -> Header:
    """Read one block of 512 bytes.

    Raises:
        BadHeader: the magic, the checksum or a number is wrong, or the name is not UTF-8.
    """
    magic = block[257:265]
    if magic not in (_POSIX_MAGIC, _GNU_MAGIC):
        raise BadHeader("a block that is not a tar header")
    field = block[148:156]
    if _number(field, "checksum") != sum(block) - sum(field) + len(field) * ord(" "):
        raise BadHeader("a header whose checksum does not fit")
    name = block[:100].partition(b"\0")[0]
    if block[345] and magic == _POSIX_MAGIC:
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    mtime_s = _number(block[136:148], "modification time", lowest=-_MAX_INSTANT_S)
    if mtime_s > _MAX_INSTANT_S:
        raise BadHeader(f"a header with the modification time {mtime_s}")
    return Header(
        kind=chr(block[156] or ord("0")),
        name=decode_name(name),
        size=_number(block[124:136], "size"),
        mode=_number(block[100:108], "mode"),
        mtime_s=mtime_s,
    )


def decode_name(name: bytes) -> str:
    if len(name) > MAX_NAME_BYTES:
        raise BadHeader(f"a name of {len(name)} bytes, more than {MAX_NAME_BYTES}")
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise BadHeader(f"a name that is not UTF-8, {name[:120]!a}") from None


class Extension(Struct, frozen=True):
    """The values of an extended header for the member after it; None: not given."""

    name: str | None = None
    size: int | None = None


def decode_extension(kind: str, payload: bytes) -> Extension:
    """Read the payload of a header of type "x" or "L".

    Only the PAX records path and size are used; their times are finer than ours.

    Raises:
        BadHeader: a record is malformed or repeated, or describes a sparse file.
    """
    if kind == "L":
        return Extension(name=decode_name(payload.removesuffix(b"\0")))
    records = _pax_records(payload)
    if any(key.startswith(b"GNU.sparse.") for key in records):
        raise BadHeader("a sparse file; only regular files are accepted")
    name = decode_name(records[b"path"]) if b"path" in records else None
    digits = records.get(b"size")
    if digits is None:
        return Extension(name)
    if not digits.isdigit() or len(digits) > 20:
        raise BadHeader(f"a PAX header with the size {digits[:40]!a}")
    return Extension(name, int(digits))


def encode_header(name: str, size: int, mtime_s: int) -> bytes:
    """The header blocks of a regular file, mode 0644: one, or three with PAX records.

    Source: Go's archive/tar, which prefers the ustar fields, since every reader supports them.
    """
    info = tarfile.TarInfo(name)
    info.size = size
    info.mtime = mtime_s
    if name.isascii() and 0 <= size < _MAX_OCTAL_SIZE and 0 <= mtime_s < _MAX_OCTAL_SIZE:
        try:
            return info.tobuf(tarfile.USTAR_FORMAT)
        except ValueError:  # the name has no slash at which it could be split
            pass
    return info.tobuf(tarfile.PAX_FORMAT)


def padding(size: int) -> bytes:
    """The zeros after `size` bytes of data."""
    return bytes(-size % BLOCK)


def _number(field: bytes, what: str, *, lowest: int = 0) -> int:
    if field[0] & 0x80:  # base-256: two's complement in all bits but the first
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ~(1 << bits)
        if field[0] & 0x40:
            value -= 1 << bits
        if value < lowest:
            raise BadHeader(f"a header with the {what} {value}")
        return value
    # A NUL ends a number; Go's reader skips one at the front, Python's reads 0.
    digits = field.rstrip(b" \0").lstrip(b" ")
    if not digits:
        return 0
    try:
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:  # the digit 8 or 9
        pass
    raise BadHeader(f"a header with the {what} {field!a}")


def _pax_records(payload: bytes) -> dict[bytes, bytes]:
    """Read records of `length key=value newline`; the length counts the whole record."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(payload):
        digits, blank, _ = payload[position : position + 8].partition(b" ")
        end = position + (int(digits) if blank and digits.isdigit() else 0)
        record = payload[position + len(digits) + 1 : end]
        key, _, value = record.partition(b"=")
        if end > len(payload) or not key or not value.endswith(b"\n"):
            raise BadHeader("a PAX header whose records cannot be read")
        if key in records:
            raise BadHeader(f"a PAX header with two records {key[:40]!a}")
        records[key] = value[:-1]
        position = end
    return records


# --- the stream -------------------------------------------------------------------------------

MAX_MEMBERS = 65_536
MAX_MEMBER_BYTES = 64 * 1024**3
"""Influxd splits TSM files at about 2 GiB (tsdb/engine/tsm1, maxTSMFileSize)."""
MAX_EXTENSION_BYTES = 64 * 1024
MAX_END_PADDING = 10_240
"""tar(1) fills its last record of 20 blocks with zeros."""

_ZERO_BLOCK = bytes(BLOCK)
_NOTHING = Extension()


class Member(Struct, frozen=True):
    """A regular file in a tar stream."""

    name: str
    """The unchecked name from the header or the extension before it. See `member_place`."""
    size: int
    mtime_s: int
    """Influxd rounds it to the nearest second, so it may be half a second in the future."""
    offset: int
    """The position of the member's own header, in bytes from the start of the stream."""


class MemberStart(Struct, frozen=True):
    """The member's header has arrived."""

    member: Member


class MemberData(Struct, frozen=True):
    """Some of the member's bytes: a slice of the fed view, valid as long as the view is."""

    data: memoryview


class MemberEnd(Struct, frozen=True):
    """The member's data and padding have arrived."""

    member: Member


Piece: TypeAlias = MemberStart | MemberData | MemberEnd


class TarWalker:
    """Parses a plain tar stream as it arrives, more strictly than other readers.

    `feed` yields pieces and must be exhausted before the next `feed`. After an error the
    walker cannot continue.

    Raises:
        ArchiveCorrupt: `feed` or `finish` finds a broken header, a member that is not a regular
            file, a duplicate name, padding that is not zero, bytes after the end, or a stream
            without its end marker.
    """

    def __init__(self, *, max_member_bytes: int = MAX_MEMBER_BYTES) -> None:
        self.offset = 0
        """Bytes parsed so far."""
        self.members: list[Member] = []
        """All members whose header has arrived."""
        self.end_padding = 0
        """Zero bytes after the end marker; influxd writes none."""
        self._max_member_bytes = max_member_bytes
        self._names: set[str] = set()
        # A bound method would make a cycle, which keeps the walker until a garbage collection.
        self._state: Callable[[TarWalker, memoryview], Iterator[Piece]] = TarWalker._at_header
        self._block = bytearray()  # the part of a header that has arrived
        self._left = 0  # the bytes missing of data, padding or an extension
        self._kind = ""  # the type of the extension that is arriving
        self._payload = bytearray()
        self._extension = _NOTHING  # the complete extension for the next member
        self._zero_blocks = 0

    def feed(self, view: memoryview) -> Iterator[Piece]:
        """Parse the next bytes of the stream into pieces."""
        start = self.offset
        end = start + len(view)
        try:
            while self.offset < end:
                yield from self._state(self, view[self.offset - start :])
        except BadHeader as error:
            raise self._corrupt(error.what) from None

    def finish(self) -> None:
        """Check, at the end of the stream, that the archive is complete."""
        if self._zero_blocks == 2 and self.end_padding % BLOCK == 0:
            return
        if self.offset == 0:
            raise ArchiveCorrupt(
                "archive is empty: 0 bytes, not even an end marker",
                hint="influxd answers like this when it fails; its log says why",
            )
        raise ArchiveCorrupt(
            f"archive ended {self._whereabouts()}, at byte {self.offset}",
            hint="the network or the storage cut it; use another copy",
        )

    # --- states: each consumes at least one byte of the view and moves `offset` ------------

    def _at_header(self, view: memoryview) -> Iterator[Piece]:
        if len(view) >= BLOCK and not self._block:
            block = bytes(view[:BLOCK])
            self.offset += BLOCK
        else:
            taken = view[: BLOCK - len(self._block)]
            self._block += taken
            self.offset += len(taken)
            if len(self._block) < BLOCK:
                return
            block = bytes(self._block)
            self._block.clear()
        if block == _ZERO_BLOCK:
            self._zero_block()
        elif self._zero_blocks:
            raise self._corrupt("one zero block where the end marker has two")
        else:
            yield from self._header(block)

    def _in_data(self, view: memoryview) -> Iterator[Piece]:
        data = view[: self._left]
        self._left -= len(data)
        self.offset += len(data)
        yield MemberData(data)
        if not self._left:
            member = self.members[-1]
            self._left = -member.size % BLOCK
            self._state = TarWalker._in_padding
            if not self._left:
                self._state = TarWalker._at_header
                yield MemberEnd(member)

    def _in_padding(self, view: memoryview) -> Iterator[Piece]:
        self._skip_zeros(view)
        if not self._left:
            self._state = TarWalker._at_header
            yield MemberEnd(self.members[-1])

    def _in_extension(self, view: memoryview) -> Iterator[Piece]:
        taken = view[: self._left]
        self._payload += taken
        self._left -= len(taken)
        self.offset += len(taken)
        if not self._left:
            self._extension = decode_extension(self._kind, bytes(self._payload))
            self._left = -len(self._payload) % BLOCK
            self._state = TarWalker._in_extension_padding if self._left else TarWalker._at_header
        return
        yield

    def _in_extension_padding(self, view: memoryview) -> Iterator[Piece]:
        self._skip_zeros(view)
        if not self._left:
            self._state = TarWalker._at_header
        return
        yield

    def _at_end(self, view: memoryview) -> Iterator[Piece]:
        if any(view):
            raise self._corrupt("bytes after its end marker")
        self.offset += len(view)
        self.end_padding += len(view)
        if self.end_padding >= MAX_END_PADDING:
            raise self._corrupt(f"{MAX_END_PADDING} zeros or more after its end marker")
        return
        yield

    # --- parts of the states ----------------------------------------------------------------

    def _header(self, block: bytes) -> Iterator[Piece]:
        header = decode_header(block)
        if header.kind in "xL":
            if self._extension != _NOTHING:
                raise self._corrupt("two extended headers for one member")
            if not 0 < header.size <= MAX_EXTENSION_BYTES:
                raise self._corrupt(
                    f"an extended header of {header.size} bytes, not 1 to {MAX_EXTENSION_BYTES}"
                )
            self._kind = header.kind
            self._payload.clear()
            self._left = header.size
            self._state = TarWalker._in_extension
            return
        extension = self._extension
        self._extension = _NOTHING
        name = header.name if extension.name is None else extension.name
        size = header.size if extension.size is None else extension.size
        header.check_regular(name)
        own, file = header.name.rpartition("/")[2], name.rpartition("/")[2]
        if own != file and _FILE.fullmatch(own):
            # An extension has no checksum. The header has one, and only a long name is cut in it.
            raise self._corrupt(f"a member named {shown(file)} and {shown(own)}")
        if not name or "\0" in name:
            raise self._corrupt(f"a member named {shown(name)}")
        if size > self._max_member_bytes:
            raise self._corrupt(
                f"a member of {size} bytes, more than {self._max_member_bytes}, {shown(name)}"
            )
        if name in self._names:
            raise self._corrupt(f"a second member named {shown(name)}")
        if len(self.members) == MAX_MEMBERS:
            raise self._corrupt(f"more than {MAX_MEMBERS} members")
        member = Member(name, size, header.mtime_s, self.offset - BLOCK)
        self._names.add(name)
        self.members.append(member)
        if size:
            self._state = TarWalker._in_data
            self._left = size
        yield MemberStart(member)
        if not size:
            yield MemberEnd(member)

    def _zero_block(self) -> None:
        if self._extension != _NOTHING:
            raise self._corrupt("an extended header without its member")
        self._zero_blocks += 1
        if self._zero_blocks == 2:
            self._state = TarWalker._at_end

    def _skip_zeros(self, view: memoryview) -> None:
        zeros = view[: self._left]
        if any(zeros):
            raise self._corrupt("padding that is not zero")
        self._left -= len(zeros)
        self.offset += len(zeros)

    def _whereabouts(self) -> str:
        if self._block:
            return f"inside a header: {len(self._block)} of {BLOCK} bytes"
        if self._zero_blocks == 1:
            return f"inside its end marker: {BLOCK} of {2 * BLOCK} bytes"
        if self._zero_blocks == 2:
            return "inside the zeros after its end marker"
        if self._state == TarWalker._in_data:
            member = self.members[-1]
            got = member.size - self._left
            return f"inside {_label(member)}: {got} of {member.size} bytes"
        if self._state == TarWalker._in_padding:
            return f"inside the padding after {_label(self.members[-1])}"
        if self._state == TarWalker._in_extension:
            got = len(self._payload)
            return f"inside an extended header: {got} of {got + self._left} bytes"
        if self._state == TarWalker._in_extension_padding or self._extension != _NOTHING:
            return "after an extended header, without its member"
        return "between members, without its end marker"

    def _corrupt(self, what: str) -> ArchiveCorrupt:
        after = f", after {_label(self.members[-1])}" if self.members else ""
        return ArchiveCorrupt(f"archive has {what}, at byte {self.offset}{after}")


# --- names -------------------------------------------------------------------------------------

_FILE = re.compile(r"[0-9]{1,20}-[0-9]{1,20}\.(?:tsm|tombstone)")
_MAX_PART_BYTES = 255


class MemberName(Struct, frozen=True):
    """`database/policy/shard/file`: where a member belongs."""

    database: str
    policy: str
    shard_id: int
    file: str
    """`000000001-000000001.tsm`: generation and sequence; or `.tombstone`."""

    @property
    def path(self) -> str:
        return f"{self.database}/{self.policy}/{self.shard_id}/{self.file}"


def member_place(name: str) -> MemberName:
    """Split a member's name into its parts; callers compare parts, never a prefix of the name.

    influxd itself compares a prefix: it takes a member of shard 397 for one of shard 39 and
    writes it beside that shard's directory.

    Raises:
        UnsafeName: the name does not have four parts, a part leads outside, or the file is no
            TSM or tombstone file.

    Source: influxd tsdb/engine/tsm1/engine.go, addToIndex and readFileFromBackup; file
    names as tsdb/engine/tsm1, DefaultFormatFileName.
    """
    parts = name.split("/")
    if len(parts) != 4:
        raise _unsafe(name, f"{len(parts)} parts instead of database/policy/shard/file")
    database, policy, shard, file = parts
    for part in (database, policy):
        if not part or part in (".", ".."):
            raise _unsafe(name, f"a part is {shown(part)}")
        if len(part.encode("utf-8", "replace")) > _MAX_PART_BYTES:
            raise _unsafe(name, f"a part is longer than {_MAX_PART_BYTES} bytes")
        if "\\" in part or not _printable(part):
            raise _unsafe(name, "it has a backslash or characters that cannot be printed")
    if not re.fullmatch(r"0|[1-9][0-9]{0,19}", shard) or int(shard) >= 2**64:
        raise _unsafe(name, f"{shown(shard)} is not a shard ID")
    if not _FILE.fullmatch(file):
        raise _unsafe(name, f"{shown(file)} is not a TSM or tombstone file")
    return MemberName(database, policy, int(shard), file)


def _printable(text: str) -> bool:
    # Unassigned characters pass: influxd's Unicode may be newer than ours.
    return text.isprintable() or not any(
        char != " " and category != "Cn" and category[0] in "CZ"
        for char, category in ((char, unicodedata.category(char)) for char in text)
    )


def _unsafe(name: str, reason: str) -> UnsafeName:
    return UnsafeName(
        f"archive has a member {shown(name)}: {reason}",
        hint="such names do not come from influxd; do not restore from this archive",
    )


def _label(member: Member) -> str:
    file = member.name.rpartition("/")[2]
    return file if _FILE.fullmatch(file) else shown(member.name)
