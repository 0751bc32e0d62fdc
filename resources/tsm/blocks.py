"""One block: the points of a key in a time range.

Layout: type (1) | varint, length of the timestamps | timestamps | values, the rest.

Source: influxdb tsdb/engine/tsm1/encoding.go, packBlock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from resources.errors import BlockUndecodable, TSMError
from resources.tsm.arrays import Ints
from resources.tsm.floats import decode_floats, encode_floats
from resources.tsm.layout import MAX_BLOCK_POINTS, BlockType
from resources.tsm.timestamps import decode_timestamps, encode_timestamps
from resources.tsm.values import (
    decode_booleans,
    decode_integers,
    decode_strings,
    decode_unsigned,
    encode_booleans,
    encode_integers,
    encode_strings,
    encode_unsigned,
)
from resources.tsm.varint import encode_uvarint, uvarint

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

_ENCODERS: dict[BlockType, tuple[type[np.generic], Callable[[Any], bytes]]] = {
    BlockType.FLOAT: (np.float64, encode_floats),
    BlockType.INTEGER: (np.int64, encode_integers),
    BlockType.BOOLEAN: (np.bool_, encode_booleans),
    BlockType.UNSIGNED: (np.uint64, encode_unsigned),
}


class Block(Struct, frozen=True, eq=False):
    """Decoded points in the order of the file; the server sorts them by time."""

    type: BlockType
    times: Ints
    """Nanoseconds since 1970."""
    values: Values


def decode_block(data: bytes) -> Block:
    """Decode a block, without its CRC.

    Raises:
        BlockUndecodable: the encodings do not allow these bytes; the message has the position.
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


def encode_block(kind: BlockType, times: Ints, values: Values) -> bytes:
    """Encode a block, without its CRC, byte for byte as the server (1.6) does.

    Args:
        times: int64, strictly ascending; one per value.
        values: of the dtype that `decode_block` returns for the type.

    Raises:
        TSMError: there are no points or more than MAX_BLOCK_POINTS, the times are not ascending,
            the values have another number or dtype, or a block cannot hold a value.
    """
    if not 1 <= len(times) <= MAX_BLOCK_POINTS or len(values) != len(times):
        raise TSMError(f"a block of {len(times)} times and {len(values)} values")
    if times.dtype != np.int64 or not (times[1:] > times[:-1]).all():
        raise TSMError(f"times from {times[0]} to {times[-1]} are not ascending int64")
    encoded_times = encode_timestamps(times)
    head = bytes([kind]) + encode_uvarint(len(encoded_times)) + encoded_times
    return head + _encode_values(kind, values)


def _encode_values(kind: BlockType, values: Values) -> bytes:
    if isinstance(values, list):
        if kind is BlockType.STRING:
            return encode_strings(values)
    elif kind in _ENCODERS:
        dtype, encode = _ENCODERS[kind]
        if values.dtype == dtype:
            return encode(values)
    what = "strings" if isinstance(values, list) else str(values.dtype)
    raise TSMError(f"values of a block of type {kind.name} cannot be {what}")
