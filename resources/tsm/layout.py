"""The fixed parts of a TSM file: header, index entries, footer, keys.

Layout, integers big-endian, times signed nanoseconds:
    header   16d116d1 | version 01
    blocks   { CRC-32 of block (4) | block }*
    index    { key length (2) | key | type (1) | n (2) | entry * n }*   keys ascending bytewise
    entry    min time (8) | max time (8) | offset (8) | size (4)        both times inclusive
    footer   offset of the index (8)

`offset` points at the CRC, and `size` counts its four bytes.

Source: influxdb tsdb/engine/tsm1/DESIGN.md, "TSM files"; tsdb/engine/tsm1/writer.go.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from resources.errors import TSMError

HEADER = bytes.fromhex("16d116d1 01")
FOOTER = struct.Struct(">Q")
KEY_LENGTH = struct.Struct(">H")
TYPE_AND_COUNT = struct.Struct(">BH")
ENTRY = struct.Struct(">qqQI")
CRC = struct.Struct(">I")

SEPARATOR = b"#!~#"
"""Separates series key and field name; the first occurrence counts."""

MAX_KEY_BYTES = 0xFFFF
MAX_ENTRIES = 0xFFFF
"""The limit of blocks of one key in one file; the count has two bytes."""

MIN_BLOCK_BYTES = CRC.size + 1 + 1 + 9 + 1
"""The least size of a block: CRC, type, length of timestamps, one timestamp, a value."""

MAX_BLOCK_POINTS = 1_000_000
"""The server writes at most 1000 points per block; other tools may write more."""


class BlockType(IntEnum):
    """The type of a field's values (tsdb/engine/tsm1/encoding.go)."""

    FLOAT = 0
    INTEGER = 1
    BOOLEAN = 2
    STRING = 3
    UNSIGNED = 4


class IndexEntry(NamedTuple):
    """One block of a key: its times, inclusive, and its place in the file."""

    min_time: int
    max_time: int
    offset: int
    size: int


class IndexKey(NamedTuple):
    """A key of the index with all its blocks, by ascending min time."""

    key: bytes
    type: BlockType
    entries: tuple[IndexEntry, ...]


def split_key(key: bytes) -> tuple[bytes, bytes]:
    """Split a key into series key (escaped: measurement and tags) and field name (unescaped).

    Raises:
        TSMError: the key has no separator, or nothing before it.

    Source: influxdb tsdb/engine/tsm1/engine.go, SeriesAndFieldFromCompositeKey.
    """
    series, separator, field = key.partition(SEPARATOR)
    if not separator or not series:
        raise TSMError(f"key {shown(key)} is not a series key, {SEPARATOR.decode()} and a field")
    return series, field


def shown(key: bytes) -> str:
    """Format a key for messages: one line, printable, of bounded length."""
    return repr(key)[1:] if len(key) <= 200 else f"{repr(key[:200])[1:]}... of {len(key)} bytes"
