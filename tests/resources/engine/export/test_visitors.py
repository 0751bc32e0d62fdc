"""What visitors of an export count and note."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resources.engine.export.measurements import Measurements
from resources.tsm.layout import BlockType
from resources.tsm.merge import SeriesPoints
from tests import builders as b


def points(key: bytes, times: Sequence[int], kind: BlockType = BlockType.FLOAT) -> SeriesPoints:
    dtype = np.float64 if kind is BlockType.FLOAT else np.int64
    return SeriesPoints(key, kind, np.array(times, np.int64), np.zeros(len(times), dtype))


def test_series_are_counted_once_over_shards_and_fields() -> None:
    found = Measurements()
    found(b.place(1), iter([points(b"m,k=a#!~#x", [1, 2]), points(b"m,k=a#!~#y", [9])]))
    found(
        b.place(2),
        iter([points(b"m,k=a#!~#x", [-4], BlockType.INTEGER), points(b"m,k=b#!~#x", [3])]),
    )
    [facts] = found.found.values()
    assert (len(facts.series), facts.values, facts.min_time_ns, facts.max_time_ns) == (2, 5, -4, 9)
    assert facts.fields[b"x"].types == {BlockType.FLOAT, BlockType.INTEGER}
    assert {name: one.values for name, one in facts.fields.items()} == {b"x": 4, b"y": 1}


def test_policies_and_measurements_are_kept_apart() -> None:
    found = Measurements()
    for policy in "week", "year":
        found(b.place(1, policy=policy), iter([points(b"m#!~#v", [1]), points(rb"m\,2#!~#v", [1])]))
    assert found.found.keys() == {
        ("db", policy, name) for policy in ("week", "year") for name in (b"m", b"m,2")
    }
