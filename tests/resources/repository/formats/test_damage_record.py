"""Damage in a manifest comes back as it was written, and hostile damage is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import BadReply
from resources.protocol.strict_json import convert_json
from resources.repository.formats.damage_record import (
    FileDamageShape,
    decode_damage,
    encode_damage,
)
from resources.tsm.damage import Damage, FileDamage

COUNTS = st.integers(0, 2**64 - 1)
TIMES = st.integers(-(2**63), 2**63 - 1)


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    times = draw(st.none() | st.tuples(TIMES, TIMES))
    first, last = times or (None, None)
    text = st.text(max_size=9)
    return Damage(draw(COUNTS), draw(COUNTS), draw(text), first, last, draw(text))


file_damages = st.builds(
    FileDamage, COUNTS, COUNTS, st.lists(damages(), max_size=3).map(tuple), st.text(max_size=9)
)


def decoded(document: object) -> FileDamage:
    shape = convert_json(document, FileDamageShape, "T.manifest")
    return decode_damage(shape, "T.manifest")


@settings(max_examples=20)
@given(file_damages)
def test_damage_comes_back_as_it_was_written(damage: FileDamage) -> None:
    assert decoded(json.loads(json.dumps(encode_damage(damage)))) == damage


def test_half_a_time_range_is_not_written() -> None:
    part = Damage(1, 2, "k", 5, None, "why")
    [written] = encode_damage(FileDamage(1, 2, (part,)))["first"]
    assert "minTime" not in written
    assert "maxTime" not in written


@pytest.mark.parametrize(
    "changed",
    [{"parts": -1}, {"parts": "1"}, {"lostBytes": None}, {"first": {}}, {"first": [{"size": 1}]}],
)
def test_other_types_are_refused(changed: dict[str, Any]) -> None:
    document = {"parts": 1, "lostBytes": 2, "first": [], **changed}
    with pytest.raises(BadReply):
        decoded(document)
