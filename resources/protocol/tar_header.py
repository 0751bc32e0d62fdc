"""The 512-byte header of a tar member, and the extensions that may precede it.

Layout (ustar; the numbers octal, or base-256 when the first bit is set):
    name 100 | mode 8 | uid 8 | gid 8 | size 12 | mtime 12 | checksum 8 | type 1 |
    link name 100 | magic and version 8 | user 32 | group 32 | device 16 | prefix 155 | 0 12

Source: POSIX pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual,
"Basic Tar Format".
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass

from resources.errors import ArchiveCorrupt, shown

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


@dataclass(frozen=True, slots=True)
class Header:
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


@dataclass(frozen=True, slots=True)
class Extension:
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
