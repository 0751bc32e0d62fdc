"""Blocks must cover their range: every byte once, no byte twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import resources.tsm.index as module
from resources.errors import IndexOutOfOrder
from resources.tsm.index import Coverage


def covered(start: int, end: int, pieces: list[tuple[int, int]]) -> str:
    """The complaint; empty if the pieces cover the range."""
    seen = Coverage(start, end)
    try:
        for piece in pieces:
            seen.add(*piece)
        seen.finish()
    except IndexOutOfOrder as error:
        return error.what
    return ""


@settings(max_examples=40)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.randoms())
def test_pieces_that_touch_cover_their_range_in_any_order(
    lengths: list[int], random: object
) -> None:
    pieces: list[tuple[int, int]] = []
    at = 5
    for length in lengths:
        pieces.append((at, at + length))
        at += length
    random.shuffle(pieces)  # type: ignore[attr-defined]
    assert covered(5, at, pieces) == ""


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=6))
def test_whatever_is_accepted_covers_every_byte_exactly_once(pieces: list[tuple[int, int]]) -> None:
    counted = [0] * 10
    for first, last in pieces:
        for byte in range(max(first, 0), min(last, 10)):
            counted[byte] += 1
    inside = all(0 <= first < last <= 10 for first, last in pieces)
    assert (covered(0, 10, pieces) == "") == (inside and counted == [1] * 10)


@pytest.mark.parametrize(
    ("pieces", "complaint"),
    [
        ([(4, 9)], "reach outside the blocks, which are bytes 5 to 20"),
        ([(5, 21)], "bytes 5 to 21 reach outside"),
        ([(7, 7)], "reach outside"),
        ([(9, 8)], "reach outside"),
        ([(5, 10), (9, 20)], "bytes 9 to 20 overlap another block"),
        ([(9, 20), (5, 10)], "bytes 5 to 10 overlap another block"),
        ([(5, 20), (5, 20)], "overlap"),
        ([(5, 10), (12, 20)], "no key has the block at offset 10"),
        ([(6, 20)], "no key has the block at offset 5"),
        ([], "no key has the block at offset 5"),
    ],
)
def test_the_first_byte_that_is_wrong_is_named(
    pieces: list[tuple[int, int]], complaint: str
) -> None:
    assert complaint in covered(5, 20, pieces)


def test_an_empty_range_needs_no_piece() -> None:
    assert covered(5, 5, []) == ""


def test_pieces_that_lie_scattered_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ISLANDS", 3)
    every_other = [(i, i + 1) for i in range(0, 8, 2)]
    assert "scattered" in covered(0, 10, every_other)
    assert "scattered" not in covered(0, 10, every_other[:3])
