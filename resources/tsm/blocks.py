"""One block: the points of a key over some time.

Layout: type (1) | varint, length of the timestamps | timestamps | values, the rest.

Source: influxdb tsdb/engine/tsm1/encoding.go, packBlock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from resources.errors import BlockUndecodable
from resources.tsm.floats import decode_floats
from resources.tsm.layout import BlockType
from resources.tsm.timestamps import decode_timestamps
from resources.tsm.values import (
    decode_booleans,
    decode_integers,
    decode_strings,
    decode_unsigned,
)
from resources.tsm.varint import Ints, uvarint

Numbers: TypeAlias = NDArray[np.float64 | np.int64 | np.uint64 | np.bool_]
Values: TypeAlias = Numbers | list[bytes]
"""One per timestamp: float64, int64, bool or uint64, or byte strings."""

_DECODERS: dict[BlockType, Callable[[bytes, int], Values]] = {
    BlockType.FLOAT: decode_floats,
    BlockType.INTEGER: decode_integers,
    BlockType.BOOLEAN: decode_booleans,
    BlockType.STRING: decode_strings,
    BlockType.UNSIGNED: decode_unsigned,
}


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Decoded points, in the order of the file: the server sorts by time."""

    type: BlockType
    times: Ints
    """Nanoseconds since 1970."""
    values: Values


def decode_block(data: bytes) -> Block:
    """Decode a block, without its CRC.

    Raises:
        BlockUndecodable: anything the encodings do not allow; the message has the position.
    """
    if not data:
        raise BlockUndecodable("a block of 0 bytes")
    if data[0] not in _DECODERS:
        raise BlockUndecodable(f"unknown block type {data[0]}")
    kind = BlockType(data[0])
    length, at = uvarint(data, 1, len(data))
    if length > len(data) - at:
        raise BlockUndecodable(f"{length} bytes of timestamps where {len(data) - at} are left")
    try:
        times = decode_timestamps(data[at : at + length])
    except BlockUndecodable as error:
        error.add_note(f"counted from byte {at} of the block")
        raise
    at += length
    try:
        values = _DECODERS[kind](data[at:], len(times))
    except BlockUndecodable as error:
        error.add_note(f"counted from byte {at} of the block")
        raise
    return Block(kind, times, values)
