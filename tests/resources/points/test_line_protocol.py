"""Points as line protocol: what is said is what is stored, or it is not said."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest

from resources.embedded.shards.line_protocol import parse_lines
from resources.points.line_protocol import can_be_written, lines_of
from resources.tsm.layout import SEPARATOR, BlockType
from resources.tsm.merge import SeriesPoints
from tests.resources.engine.merge.test_typed import KINDS

FLOAT, INTEGER, BOOLEAN = BlockType.FLOAT, BlockType.INTEGER, BlockType.BOOLEAN
STRING = BlockType.STRING
EDGES: list[tuple[BlockType, Any]] = [
    *((INTEGER, value) for value in (0, -1, 2**53 + 1, -(2**63), 2**63 - 1)),
    *((FLOAT, value) for value in (0.0, -0.0, 1.0, 0.1, 5e-324, -1.7976931348623157e308, 1e22)),
    *((BOOLEAN, value) for value in (True, False)),
    *((STRING, value) for value in (b"", b'"', b"\\", b'\\"', b"a\nb", b"\xff\x00", b"a=b,c d")),
]
NAMES = [
    b"m",
    b"a\\,b",
    b"a\\ b",
    "häßlich☃".encode(),
    b"a.*[b]$",
    b"'q\"",
    b"\xff",
    b"\\#m",
    b"a=b",
]


def key_of(series: bytes, field: bytes = b"v") -> bytes:
    return series + SEPARATOR + field


def message(key: bytes, kind: BlockType, time_ns: int, value: Any) -> list[tuple[Any, ...]]:
    """What a server reads in our lines."""
    values = [value] if kind is STRING else np.array([value], KINDS[kind])
    [line] = lines_of(SeriesPoints(key, kind, np.array([time_ns], np.int64), values))
    read = parse_lines(line + b"after v=1 1\n", now_ns=0)
    assert not read.errors, line
    *points, after = read.points
    assert (after.series, after.time_ns) == (b"after", 1)
    return [(p.series, p.time_ns, *field) for p in points for field in p.fields]


@pytest.mark.parametrize(("kind", "value"), EDGES)
@pytest.mark.parametrize("time_ns", [-(2**63) + 2, -1, 0, 2**63 - 2])
def test_a_server_reads_the_type_and_the_value_that_are_stored(
    kind: BlockType, value: Any, time_ns: int
) -> None:
    [(series, time, field, read_kind, read)] = message(key_of(b"m"), kind, time_ns, value)
    assert (series, time, field, read_kind) == (b"m", time_ns, b"v", kind)
    assert repr(read) == repr(value)


@pytest.mark.parametrize("measurement", NAMES)
def test_a_server_reads_the_key_that_is_stored(measurement: bytes) -> None:
    for tags in (b"", b",k=v", b",k\\ =\\,,l=\\=", b",k=a\\\nb", b",k=c:\\dir"):
        for field in (b"v", b"a b", b"a,b", b"a=b", b'a"b', b"c:\\dir", b"\xff", b"#"):
            key = key_of(measurement + tags, field)
            assert can_be_written(key)
            assert message(key, INTEGER, 5, 7) == [(measurement + tags, 5, field, INTEGER, 7)]


@pytest.mark.parametrize(
    "key",
    [
        *(key_of(name) for name in (b"#m", b"\tm", b"\0m", b"m\nn", b"m n", b"m\\\\ n", b"m\\")),
        *(key_of(b"m,k=" + value) for value in (b"", b"a\nb v=1 1", b"a\\\\\nb", b"a\\", b"a=b")),
        *(key_of(b"m" + tags) for tags in (b",k=,l=x", b",k", b",", b",=v")),
        *(
            key_of(b"m", field)
            for field in (b"", b"a\nb", b"\ta", b"\0", b"a\\", b"a\\ b", b'a\\"b')
        ),
    ],
)
def test_a_key_that_no_line_can_have_is_not_reported(key: bytes) -> None:
    assert not can_be_written(key)


def test_any_key_is_read_as_it_is_stored_or_not_reported() -> None:
    draw = random.Random(12)
    letters = [
        b"a",
        b"\\",
        b",",
        b" ",
        b"=",
        b'"',
        b"\n",
        b"#",
        b"\xff",
        b"\t",
        b"\\,",
        b"\\ ",
        b"\\=",
    ]
    n = 0
    for _ in range(20_000):
        series = b"m" * draw.randrange(2) + b"".join(draw.choices(letters, k=draw.randrange(1, 6)))
        for _ in range(draw.randrange(3)):
            series += b"," + b"=".join(
                b"".join(draw.choices(letters, k=draw.randrange(1, 4))) for _ in range(2)
            )
        field = b"".join(draw.choices(letters, k=draw.randrange(1, 4)))
        key = key_of(series, field)
        if SEPARATOR in series or not can_be_written(key):
            continue
        [line] = lines_of(SeriesPoints(key, INTEGER, np.array([5]), np.array([7])))
        read = parse_lines(b"before v=1 1\n" + line + b"after v=1 1\n", now_ns=0)
        between = [(p.series, p.time_ns, *f) for p in read.points[1:-1] for f in p.fields]
        # Refused as a whole, with both neighbours as they are; else exactly what is stored.
        assert [read.points[0].series, read.points[-1].series] == [b"before", b"after"], line
        if between:
            assert _in_order(between[0][0]) == _in_order(series), line
            assert between[0][1:] == (5, field, INTEGER, 7), line
            assert len(between) == 1
            n += 1
    assert n > 500


def _in_order(series: bytes) -> list[bytes]:
    """A server puts tags in order; here they are drawn as they come."""
    measurement, *tags = re.split(rb"(?<!\\),", series)
    return [measurement, *sorted(tags)]
