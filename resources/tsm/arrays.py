"""The array types of this package, and a reader of many varints at once."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from resources.tsm.varint import MAX_BYTES

Ints: TypeAlias = NDArray[np.int64]
Words: TypeAlias = NDArray[np.uint64]
Bytes: TypeAlias = NDArray[np.uint8]


def uvarints(data: Bytes, at: Ints, end: Ints) -> tuple[Words, Ints]:
    """Read one varint at each of many positions; return them and the positions after them.

    A varint that is cut by its `end` or too long has position -1.
    """
    value = (data[at] & 0x7F).astype(np.uint64)
    behind = at + 1
    (more,) = np.nonzero(data[at] >= 0x80)
    for i in range(1, MAX_BYTES):
        if not more.size:
            return value, behind
        position = at[more] + i
        inside = position < end[more]
        behind[more[~inside]] = -1
        more, position = more[inside], position[inside]
        byte = data[position]
        value[more] |= (byte & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * i)
        behind[more] = position + 1
        if i == MAX_BYTES - 1:
            behind[more[byte > 1]] = -1
        more = more[byte >= 0x80]
    return value, behind
