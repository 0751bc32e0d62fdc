"""Whether points are there with type and value, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resources.engine.merge.typed import There, compared, in_all, in_any, last_written
from resources.tsm.layout import BlockType
from resources.tsm.merge import SeriesPoints

FLOAT, INTEGER, BOOLEAN = BlockType.FLOAT, BlockType.INTEGER, BlockType.BOOLEAN
STRING, UNSIGNED = BlockType.STRING, BlockType.UNSIGNED
KINDS: dict[BlockType, Any] = {
    FLOAT: np.float64,
    INTEGER: np.int64,
    BOOLEAN: np.bool_,
    UNSIGNED: np.uint64,
}
SAME, OTHER, TYPE, MISSING = There.SAME, There.OTHER, There.TYPE, There.MISSING


def points(kind: BlockType, *rows: tuple[int, Any]) -> SeriesPoints:
    times = np.array([time for time, _ in rows], np.int64)
    values = [value for _, value in rows]
    return SeriesPoints(
        b"m#!~#v", kind, times, values if kind is STRING else np.array(values, KINDS[kind])
    )


def test_each_point_is_the_same_another_or_missing() -> None:
    wanted = points(INTEGER, (-(2**63), 1), (0, 2), (5, 3), (2**63 - 2, 4))
    there = points(INTEGER, (-5, 9), (0, 2), (5, 4), (2**63 - 2, 4))
    assert compared(wanted, there).tolist() == [MISSING, SAME, OTHER, SAME]
    assert compared(wanted, wanted).tolist() == [SAME] * 4
    assert compared(wanted, None).tolist() == [MISSING] * 4


@pytest.mark.parametrize(
    ("kind", "was", "is_now"),
    [
        (INTEGER, 2**53, 2**53 + 1),
        (INTEGER, -(2**63), 2**63 - 1),
        (UNSIGNED, 2**64 - 1, 2**63),
        (FLOAT, 0.0, -0.0),
        (FLOAT, 0.1, 0.1 + 2**-56),
        (FLOAT, 5e-324, 0.0),
        (BOOLEAN, True, False),
        (STRING, b"a", b"a "),
        (STRING, b"a\xff\x00", b"a\xef\xbf\xbd\x00"),
        (STRING, b"", b"\x00"),
    ],
)
def test_a_value_that_differs_in_a_bit_is_another(kind: BlockType, was: Any, is_now: Any) -> None:
    assert compared(points(kind, (7, was)), points(kind, (7, is_now))).tolist() == [OTHER]
    assert compared(points(kind, (7, was)), points(kind, (7, was))).tolist() == [SAME]


def test_a_number_that_is_none_is_itself() -> None:
    nan = points(FLOAT, (7, float("nan")))
    assert compared(nan, nan).tolist() == [SAME]


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        (points(INTEGER, (7, 1)), points(FLOAT, (7, 1.0))),
        (points(INTEGER, (7, 2**53 + 1)), points(FLOAT, (7, 2.0**53))),
        (points(INTEGER, (7, 1)), points(UNSIGNED, (7, 1))),
        (points(INTEGER, (7, 1)), points(BOOLEAN, (7, True))),
        (points(BOOLEAN, (7, True)), points(STRING, (7, b"true"))),
        (points(STRING, (7, b"1")), points(INTEGER, (7, 1))),
    ],
)
def test_the_same_number_of_another_type_is_not_the_same(
    wanted: SeriesPoints, there: SeriesPoints
) -> None:
    assert compared(wanted, there).tolist() == [TYPE]


def test_every_copy_of_a_shard_counts_and_one_of_several_shards_is_enough() -> None:
    wanted = points(INTEGER, (1, 1), (2, 2), (3, 3))
    whole = compared(wanted, wanted)
    behind = compared(wanted, points(INTEGER, (1, 1), (2, 9)))
    assert in_all([whole, behind]).tolist() == [SAME, OTHER, MISSING]
    assert in_any([whole, behind]).tolist() == [SAME, SAME, SAME]
    assert in_any([behind, compared(wanted, None)]).tolist() == [SAME, OTHER, MISSING]


def test_of_two_values_the_one_that_was_written_last_counts() -> None:
    newest = points(INTEGER, (2, 20), (3, 30))
    older = points(INTEGER, (1, 1), (2, 2), (3, 30))
    oldest = points(FLOAT, (1, 0.5), (4, 4.0))
    kept, overwritten = last_written([newest, older, oldest])
    assert [None if each is None else each.times.tolist() for each in kept] == [[2, 3], [1], [4]]
    assert overwritten == 2  # at 2 another value, at 1 another type; at 3 it is the same one
    kept, overwritten = last_written([newest, points(INTEGER, (3, 30))])
    assert kept[1] is None
    assert overwritten == 0
