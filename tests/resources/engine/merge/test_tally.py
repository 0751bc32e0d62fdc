"""What a comparison found, added up by group and measurement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.engine.merge.bundles import BackupGroup
from resources.engine.merge.compare import KeyFound
from resources.engine.merge.slices import Span
from resources.engine.merge.tally import Tally
from resources.engine.merge.typed import There
from resources.model import ShardGroupID
from resources.points.series import measurement_of
from resources.tsm.layout import BlockType
from resources.tsm.merge import SeriesPoints

SAME, OTHER, TYPE, MISSING = There.SAME, There.OTHER, There.TYPE, There.MISSING


def group(number: int) -> BackupGroup:
    return BackupGroup(ShardGroupID(number), 0, "rp", "rp", Span(0, 100), None, ())


def found(
    codes: list[There], *, key: bytes = b"cpu,host=a#!~#value", number: int = 1, at_ns: int = 10,
    kind: BlockType = BlockType.INTEGER,
) -> KeyFound:  # fmt: skip
    times = np.arange(at_ns, at_ns + len(codes), dtype=np.int64)
    values: Any = [b"v"] * len(codes) if kind is BlockType.STRING else np.arange(len(codes))
    points = SeriesPoints(key, kind, times, values)
    return KeyFound(group(number), points, np.array(codes, np.uint8))


def tally(*all_found: KeyFound) -> Tally:
    made = Tally()
    for one in all_found:
        made(one)
    return made


def test_points_are_counted_by_what_became_of_them() -> None:
    made = tally(found([SAME, OTHER, TYPE, MISSING, MISSING]), found([SAME], number=2))
    one = made.of(group(1))
    assert (one.same, one.other, one.missing, one.points) == (1, 2, 2, 5)
    assert (made.same, made.open, made.missing) == (2, 4, 2)
    assert made.of(group(3)).points == 0


@settings(max_examples=15)
@given(st.lists(st.lists(st.sampled_from(There), min_size=1, max_size=6), max_size=5))
def test_every_point_is_counted_once(codes: list[list[There]]) -> None:
    made = tally(*(found(one, number=i % 2) for i, one in enumerate(codes)))
    assert made.same + made.open == sum(map(len, codes))
    open_points = sum(o.points for g in made.groups.values() for o in g.open.values())
    assert open_points == made.open


def test_points_that_are_not_there_are_told_with_the_first_and_their_time() -> None:
    made = tally(found([SAME, MISSING, SAME, OTHER], at_ns=10), found([TYPE], at_ns=3))
    [(measurement, open_)] = made.of(group(1)).open.items()
    assert measurement == b"cpu"
    assert (open_.points, open_.first_ns, open_.last_ns) == (3, 3, 13)
    assert open_.span == Span(3, 14)
    assert (open_.verb, open_.example) == ("is missing", "'cpu,host=a value=1 at 11'")


@pytest.mark.parametrize(
    ("code", "verb"),
    [(MISSING, "is missing"), (OTHER, "has another value"), (TYPE, "has another type")],
)
def test_what_is_wrong_with_the_first_is_said(code: There, verb: str) -> None:
    assert tally(found([code])).of(group(1)).open[b"cpu"].verb == verb


def test_the_types_of_a_field_are_gathered_over_its_series() -> None:
    made = tally(
        found([SAME]),
        found([SAME], key=b"cpu,host=b#!~#value", kind=BlockType.STRING),
        found([SAME], key=b"cpu#!~#other"),
    )
    assert made.of(group(1)).types == {
        (b"cpu", b"value"): {BlockType.INTEGER, BlockType.STRING},
        (b"cpu", b"other"): {BlockType.INTEGER},
    }


def test_a_hostile_key_cannot_forge_a_line_and_is_cut() -> None:
    made = tally(found([MISSING], key=b"a\n\xff" + b"x" * 999 + b"#!~#v", kind=BlockType.STRING))
    [open_] = made.of(group(1)).open.values()
    assert "\n" not in open_.example
    assert len(open_.example) < 400


@pytest.mark.parametrize(
    ("key", "measurement"),
    [
        (b"cpu,host=a#!~#v", b"cpu"),
        (b"cpu#!~#v", b"cpu"),
        (b"c\\,pu,host=a#!~#v", b"c,pu"),
        (b"c\\ pu#!~#v", b"c pu"),
        (b"cpu#!~#v,w", b"cpu"),
        (b"cpu", b"cpu"),
        (b"", b""),
        (b"a\\,b#!~#v", b"a,b"),
    ],
)
def test_the_measurement_of_a_key_is_unescaped(key: bytes, measurement: bytes) -> None:
    assert measurement_of(key) == measurement
