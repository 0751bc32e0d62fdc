"""A filter wants exactly the keys and groups that it names."""

from __future__ import annotations

import pytest

from resources.points.filters import MAX_NS, MIN_NS, PointFilter
from tests import builders as b

CPU = b"cpu,dc=x,host=a#!~#usage"


@pytest.mark.parametrize(
    ("wanted", "is_wanted"),
    [
        (PointFilter(), True),
        (PointFilter(b"cpu"), True),
        (PointFilter(b"cp"), False),
        (PointFilter(tags={b"host": b"a"}), True),
        (PointFilter(tags={b"host": b"a", b"dc": b"y"}), False),
        (PointFilter(tags={b"rack": b""}), True),  # as InfluxQL: no such tag
        (PointFilter(tags={b"host": b""}), False),
        (PointFilter(fields=frozenset((b"usage", b"idle"))), True),
        (PointFilter(fields=frozenset((b"idle",))), False),
    ],
)
def test_a_key(wanted: PointFilter, is_wanted: bool) -> None:
    assert wanted.wants_key(CPU) == is_wanted


@pytest.mark.parametrize(
    ("start_ns", "end_ns", "is_wanted"),
    [
        (MIN_NS, MAX_NS, True),
        (0, 1, True),
        (b.DAY_NS, MAX_NS, False),
        (-5, 0, False),
        (-5, 1, True),
    ],
)
def test_a_group_is_wanted_if_it_shares_a_time(start_ns: int, end_ns: int, is_wanted: bool) -> None:
    wanted = PointFilter(start_ns=start_ns, end_ns=end_ns)
    assert wanted.wants_group(b.group(1, 1)) == is_wanted
    assert (wanted.times is None) == ((start_ns, end_ns) == (MIN_NS, MAX_NS))
