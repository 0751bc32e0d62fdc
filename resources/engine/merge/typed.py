"""Are the points of one key there, with type and value? Pure.

Values are compared as stored: floats by their bits, so that -0.0 is not 0.0; strings by their
bytes; numbers of different types are never equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from resources.tsm.blocks import Values
from resources.tsm.layout import BlockType
from resources.tsm.merge import SeriesPoints, chosen

Codes = NDArray[np.uint8]
"""A `There` for each point."""


class There(IntEnum):
    """What a copy has for a point; of two copies the greater code counts."""

    SAME = 0
    OTHER = 1
    """Another value of the same type."""
    TYPE = 2
    """A value of another type."""
    MISSING = 3


def compared(wanted: SeriesPoints, there: SeriesPoints | None) -> Codes:
    """The code of each point in one copy."""
    codes = np.full(len(wanted.times), There.MISSING, np.uint8)
    if there is None or not len(there.times):
        return codes
    at = np.minimum(np.searchsorted(there.times, wanted.times), len(there.times) - 1)
    (hit,) = np.nonzero(there.times[at] == wanted.times)
    if there.type is not wanted.type:
        codes[hit] = There.TYPE
        return codes
    same = equal_values(wanted.type, chosen(wanted.values, hit), chosen(there.values, at[hit]))
    codes[hit] = np.where(same, There.SAME, There.OTHER)
    return codes


def in_all(copies: Sequence[Codes]) -> Codes:
    """The codes of a shard: a point is there if every one of its copies has it."""
    return np.maximum.reduce(copies)


def in_any(shards: Sequence[Codes]) -> Codes:
    """The codes of several shards: a point is there if one of them has it."""
    return np.minimum.reduce(shards)


def equal_values(kind: BlockType, left: Values, right: Values) -> NDArray[np.bool_]:
    """Which values are equal, bit by bit."""
    if isinstance(left, list) or isinstance(right, list):
        pairs = zip(left, right, strict=True)
        return np.fromiter((a == b for a, b in pairs), np.bool_, len(left))
    if kind is BlockType.FLOAT:
        bits = np.ascontiguousarray(left).view(np.uint64)
        return np.asarray(bits == np.ascontiguousarray(right).view(np.uint64), np.bool_)
    return np.asarray(left == right, np.bool_)


def last_written(parts: Sequence[SeriesPoints]) -> tuple[list[SeriesPoints | None], int]:
    """The points that count of one key in several shards.

    Args:
        parts: the points of each shard, the last written first.

    Returns the points of each part that no earlier part has, and how many points had another
    value in an earlier part.
    """
    kept: list[SeriesPoints | None] = []
    overwritten = 0
    for part in parts:
        earlier = [compared(part, other) for other in kept if other is not None]
        if not earlier:
            kept.append(part)
            continue
        codes = in_any(earlier)
        overwritten += int(((codes == There.OTHER) | (codes == There.TYPE)).sum())
        (rows,) = np.nonzero(codes == There.MISSING)
        kept.append(rows_of(part, rows) if len(rows) else None)
    return kept, overwritten


def rows_of(points: SeriesPoints, rows: NDArray[np.intp]) -> SeriesPoints:
    """Some of a key's points."""
    return SeriesPoints(points.key, points.type, points.times[rows], chosen(points.values, rows))
