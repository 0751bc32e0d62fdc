"""Keys as the server makes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import TSMError
from resources.tsm.keys import series_key, tsm_key
from resources.tsm.layout import MAX_KEY_BYTES, split_key
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource
from tests.influxd import Influxd
from tests.resources.tsm.points import T0, Name, everything

NAMES = st.text(st.characters(exclude_characters="#\\", exclude_categories=["Cs"]), min_size=1)


@pytest.mark.parametrize("name", everything())
def test_keys_are_those_of_files_that_a_server_wrote(name: Name) -> None:
    assert series_key(name.measurement, dict(name.tags)) == name.series.encode()
    assert tsm_key(name.measurement, dict(name.tags), name.field) == name.key


def test_tags_stand_in_the_order_of_their_escaped_bytes() -> None:
    tags = {"b": "1", "\U0001f600": "2", "\uffff": "3", "a,z": "4", "a-": "5", "B": "6"}
    expected = "m,B=6,a-=5,a\\,z=4,b=1,\uffff=3,\U0001f600=2"
    assert series_key("m", tags) == expected.encode()


def test_an_equals_sign_is_escaped_in_tags_alone() -> None:
    assert tsm_key("m=1", {"t=": "v="}, "f=,x") == b"m=1,t\\==v\\=#!~#f=,x"


def test_bytes_that_are_not_text_pass_as_surrogate_escapes() -> None:
    name = b"caf\xe9".decode(errors="surrogateescape")
    assert series_key(name, {name: name}) == b"caf\xe9,caf\xe9=caf\xe9"


@given(NAMES, st.dictionaries(NAMES, NAMES, max_size=4), NAMES)
def test_a_key_splits_where_it_was_joined(m: str, tags: dict[str, str], field: str) -> None:
    assert split_key(tsm_key(m, tags, field)) == (series_key(m, tags), field.encode())


@pytest.mark.wire
def test_a_server_makes_the_same_keys(influxd: Influxd) -> None:
    influxd.create_database("tsm_keys_made")
    written = [
        (r"m,a\,z=2,a-=1,ab=3 f=1", ("m", {"a,z": "2", "a-": "1", "ab": "3"}, "f")),
        (r"m=1,t\==v\= a\ \,\=b=1", ("m=1", {"t=": "v="}, "a ,=b")),
        (r"a\b,t\u=\v f=1", ("a\\b", {"t\\u": "\\v"}, "f")),
        ("č\\ ď,😀=1,￿=2 ř=1", ("č ď", {"￿": "2", "😀": "1"}, "ř")),
    ]
    influxd.write("tsm_keys_made", [f"{line} {T0}" for line, _ in written])
    [path] = influxd.flush("tsm_keys_made")
    found = list(TSMFile(BytesSource(path.read_bytes())).keys())
    assert found == sorted(tsm_key(*names) for _, names in written)


@pytest.mark.parametrize(
    ("measurement", "tags", "field"),
    [
        ("", {}, "f"),
        ("m", {"": "v"}, "f"),
        ("m", {"t": ""}, "f"),
        ("m", {"t": "v"}, ""),
        ("m\\", {"t": "v"}, "f"),
        ("m", {"t\\": "v"}, "f"),
        ("m", {"t": "v\\"}, "f"),
        ("m", {"t": "v\\,w=x"}, "f"),
        ("m\\ n", {}, "f"),
        ("m", {"t": "#!~#"}, "f"),
        ("m#!~#", {}, "f"),
        ("m", {"t": "v#!~"}, "f"),
        ("m\ud800", {}, "f"),
        ("m", {}, "f" * MAX_KEY_BYTES),
    ],
)
def test_names_that_would_make_another_key_are_refused(
    measurement: str, tags: dict[str, str], field: str
) -> None:
    with pytest.raises(TSMError):
        tsm_key(measurement, tags, field)


def test_a_backslash_inside_a_name_is_itself() -> None:
    assert tsm_key("a\\b", {"t\\u": "\\v"}, "f\\") == b"a\\b,t\\u=\\v#!~#f\\"
