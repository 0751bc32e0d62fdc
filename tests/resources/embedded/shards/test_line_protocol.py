"""Line protocol becomes points, and what is no point is told as the server tells it."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from resources.embedded.shards.line_protocol import MAX_TIME_NS, MIN_TIME_NS, parse_lines
from resources.embedded.shards.points import Field, Point, made_point
from resources.errors import TSMError
from resources.tsm.keys import series_key
from resources.tsm.layout import BlockType
from tests.influxd import Influxd

NOW_NS = 1_795_000_000_123_456_789

FLOAT, INTEGER, BOOLEAN = BlockType.FLOAT, BlockType.INTEGER, BlockType.BOOLEAN
STRING, UNSIGNED = BlockType.STRING, BlockType.UNSIGNED


def parsed(line: bytes, **options: Any) -> Point:
    lines = parse_lines(line, now_ns=NOW_NS, **options)
    assert lines.error is None
    [point] = lines.points
    return point


@pytest.mark.parametrize(
    ("line", "series", "time_ns", "fields"),
    [
        (b"m v=1.5 7", b"m", 7, [(b"v", FLOAT, 1.5)]),
        (b"m v=1 -7", b"m", -7, [(b"v", FLOAT, 1.0)]),
        (b"m v=-3i 7", b"m", 7, [(b"v", INTEGER, -3)]),
        (b"m,b=2,a=1 v=t,w=FALSE 7", b"m,a=1,b=2", 7, [(b"v", BOOLEAN, True), (b"w", BOOLEAN, 0)]),
        (b'm v="a b,c=d" 7', b"m", 7, [(b"v", STRING, b"a b,c=d")]),
        (b'm v="say \\"hi\\" \\\\ \\n" 7', b"m", 7, [(b"v", STRING, b'say "hi" \\ \\n')]),
        (b'm v="two\nlines" 7', b"m", 7, [(b"v", STRING, b"two\nlines")]),
        (b"m v=.5e-3,w=2. 7", b"m", 7, [(b"v", FLOAT, 0.0005), (b"w", FLOAT, 2.0)]),
        (rb"we\ ird\,x,ta\ g=v\,a\=l f\ i\,e\=ld=1i 7", rb"we\ ird\,x,ta\ g=v\,a\=l", 7, None),
        ("měření,značka=🙂 pole=1 7".encode(), "měření,značka=🙂".encode(), 7, None),
        (b"  m v=1  7  ", b"m", 7, None),
        (b"m v=9223372036854775807i,w=-9223372036854775808i 1", b"m", 1, None),
    ],
)
def test_every_kind_of_line_is_a_point(
    line: bytes, series: bytes, time_ns: int, fields: list[Field] | None
) -> None:
    point = parsed(line)
    assert (point.series, point.time_ns) == (series, time_ns)
    if fields is not None:
        assert list(point.fields) == fields


def test_names_of_fields_lose_their_escapes() -> None:
    assert [name for name, _, _ in parsed(rb"m a\ b\,c\=d\"e=1 1").fields] == [b'a b,c=d"e']


def test_empty_lines_and_comments_are_no_points() -> None:
    assert parse_lines(b"\n\n# m v=1\n  \nm v=1 1\n", now_ns=0).points == [parsed(b"m v=1 1")]


@pytest.mark.parametrize(
    ("precision", "unit_ns"),
    [("ns", 1), ("u", 10**3), ("ms", 10**6), ("s", 10**9), ("m", 60 * 10**9), ("h", 3600 * 10**9)],
)
def test_times_have_the_unit_that_is_reported_and_now_is_cut_to_it(
    precision: str, unit_ns: int
) -> None:
    assert parsed(b"m v=1 42", precision=precision).time_ns == 42 * unit_ns
    assert parsed(b"m v=1", precision=precision).time_ns == NOW_NS - NOW_NS % unit_ns


def test_unsigned_numbers_are_taken_where_asked_for() -> None:
    assert parse_lines(b"m v=5u 1", now_ns=0).error == "unable to parse 'm v=5u 1': invalid number"
    point = parsed(b"m v=18446744073709551615u 1", unsigned=True)
    assert point.fields == ((b"v", UNSIGNED, 2**64 - 1),)


WRONG = {
    b"m": "missing fields",
    b"m ": "invalid field format",
    b",a=b v=1": "missing measurement",
    b"m,a v=1": "missing tag value",
    b"m,a= v=1": "missing tag value",
    b"m,=b v=1": "missing tag key",
    b"m, v=1": "missing tag key",
    b"m,a=b=c v=1": "invalid tag format",
    b"m,a=b,a=c v=1": "duplicate tags",
    b"m v": "invalid field format",
    b"m v=": "missing field value",
    b"m =1": "missing field key",
    b"m v=1,w": "invalid field format",
    b"m v=1,": "invalid field format",
    b"m v=1,,w=2": "invalid field format",
    b"m v=1, w=2": "invalid field format",
    b'm v="x': "unbalanced quotes",
    b"m v=-": "invalid number",
    b"m v=1e": "invalid float",
    b"m v=1e400": "invalid float",
    b"m v=1.2.3": "invalid number",
    b"m v=+1": "invalid boolean",
    b"m v=1.5i": "invalid number",
    b"m v=abc": "invalid boolean",
    b"m v=nan": "invalid number",
    b"m v=inf": "invalid boolean",
    b"m v=0x1": "invalid number",
    b"m v=1 x": "bad timestamp",
    b"m v=1 5x": "bad timestamp",
    b"m v=1 1 2": "point is invalid",
    b"m v=1 5\r": "bad timestamp",
    b"m v=1 9223372036854775807": f"time outside range {MIN_TIME_NS} - {MAX_TIME_NS}",
    b"m v=1 99999999999999999999": (
        'strconv.ParseInt: parsing "99999999999999999999": value out of range'
    ),
    b"m v=99999999999999999999i": (
        "unable to parse integer 99999999999999999999:"
        ' strconv.ParseInt: parsing "99999999999999999999": value out of range'
    ),
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_no_point_is_reported_with_its_reason(line: bytes) -> None:
    lines = parse_lines(line, now_ns=NOW_NS)
    assert lines.points == []
    assert lines.error == f"unable to parse '{line.decode()}': {WRONG[line]}"


def test_good_lines_beside_bad_ones_are_points() -> None:
    lines = parse_lines(b"m v=1 1\nm v\nm v=2 2\nm", now_ns=NOW_NS)
    assert [point.time_ns for point in lines.points] == [1, 2]
    assert lines.error == (
        "partial write: unable to parse 'm v': invalid field format\n"
        "unable to parse 'm': missing fields dropped=0"
    )


@pytest.mark.wire
def test_a_real_server_says_the_same_of_the_same_lines(influxd: Influxd) -> None:
    influxd.create_database("lines")
    write = f"{influxd.url}/write?db=lines"
    both = [*WRONG, b"m v=1 1\nm v\nm v=2 2\nm", b"m v=1 1", b'm s="a\nb" 1\nm s="c" 2']
    for body in both:
        response = requests.post(write, data=body, timeout=30)
        reply = response.json()["error"] if response.status_code == 400 else None
        assert parse_lines(body, now_ns=NOW_NS).error == reply, body


names = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\n\0"), min_size=1, max_size=12
)
values = st.one_of(
    st.tuples(st.just(FLOAT), st.floats(allow_nan=False, allow_infinity=False)),
    st.tuples(st.just(INTEGER), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(BOOLEAN), st.booleans()),
    st.tuples(st.just(STRING), st.binary(max_size=20)),
    st.tuples(st.just(UNSIGNED), st.integers(0, 2**64 - 1)),
)


@st.composite
def points(draw: st.DrawFn) -> Point | None:
    try:
        series = series_key(draw(names), draw(st.dictionaries(names, names, max_size=3)))
    except TSMError:
        return None
    # In front of a name both mean something else; behind it a backslash escapes the equals sign.
    if series[:1] in b"# \t":
        return None
    fields = draw(st.dictionaries(names, values, min_size=1, max_size=4))
    if any("\\" in name for name in fields):
        return None
    times = st.integers(MIN_TIME_NS, MAX_TIME_NS)
    found = tuple((name.encode(), kind, value) for name, (kind, value) in fields.items())
    return made_point(series, draw(times), found)


@given(st.lists(points(), max_size=5))
def test_points_written_as_lines_are_read_back(found: list[Point | None]) -> None:
    written = [point for point in found if point is not None]
    body = b"\n".join(b"%b %b %d" % (p.series, p.text, p.time_ns) for p in written)
    # Twice, since a series that is known already takes a shorter way.
    lines = parse_lines(body + b"\n" + body, now_ns=0, unsigned=True)
    assert lines.errors == ()
    assert list(map(bits, lines.points)) == list(map(bits, written)) * 2


def bits(point: Point) -> object:
    """A point, its floats by their bits: zero has two."""
    fields = [
        (name, kind, struct.pack(">d", value) if isinstance(value, float) else value)
        for name, kind, value in point.fields
    ]
    return point.series, point.time_ns, fields


alphabet = st.sampled_from(
    [b"m", b",", b"=", b" ", b'"', b"\\", b"\n", b"1", b"i", b"t", b"#", b"\xff"]
)


@given(st.lists(alphabet, max_size=40).map(b"".join))
def test_any_bytes_are_points_or_errors(body: bytes) -> None:
    lines = parse_lines(body, now_ns=NOW_NS)
    for point in lines.points:
        assert point.fields
        assert not any(isinstance(value, float) and math.isnan(value) for *_, value in point.fields)
        # The text of a point is what its fields are made of.
        again = parse_lines(b"%b %b %d" % (point.series, point.text, point.time_ns), now_ns=0)
        assert again.points == [point]
