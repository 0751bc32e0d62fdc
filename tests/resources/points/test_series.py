"""A key is split into the names that it was made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import TSMError
from resources.points.series import SeriesName, measurement_of, parse_series
from resources.tsm.keys import tsm_key
from resources.tsm.layout import split_key

NAMES = st.text("aé,= #!~", min_size=1, max_size=5).filter(lambda name: "#!~#" not in name)


@given(NAMES, st.dictionaries(NAMES, NAMES, max_size=3), NAMES)
def test_what_made_a_key_comes_out_of_it(
    measurement: str, tags: dict[str, str], field: str
) -> None:
    try:
        key = tsm_key(measurement, tags, field)
    except TSMError:
        return  # these names together hold the separator
    text, found = split_key(key)
    series = parse_series(text)
    assert found == field.encode()
    assert series.measurement == measurement.encode() == measurement_of(key)
    assert dict(series.tags) == {tag.encode(): tags[tag].encode() for tag in tags}


@pytest.mark.parametrize(
    ("series", "name"),
    [
        (b"m", SeriesName(b"m", ())),
        (b"m=1", SeriesName(b"m=1", ())),
        (rb"a\,b,c\=d=e\ f", SeriesName(b"a,b", ((b"c=d", b"e f"),))),
        (rb"m,k=a=b", SeriesName(b"m", ((b"k", b"a=b"),))),  # servers take it as the value
        (rb"m,k=C:\dir", SeriesName(b"m", ((b"k", rb"C:\dir"),))),
        (rb"m\x,k=\\", SeriesName(rb"m\x", ((b"k", rb"\\"),))),
    ],
)
def test_backslashes_that_escape_nothing_stay(series: bytes, name: SeriesName) -> None:
    assert parse_series(series) == name


@pytest.mark.parametrize("series", [b"m,k", b"m,,", b"m,k=v,x"])
def test_what_is_no_list_of_tags_is_refused(series: bytes) -> None:
    with pytest.raises(TSMError, match="is no tag"):
        parse_series(series)
