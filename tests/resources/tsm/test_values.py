"""Integers, booleans and strings of a block come back, and no block becomes too large."""

from __future__ import annotations

import contextlib

import cramjam
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import BlockUndecodable
from resources.tsm.values import (
    MAX_STRING_BYTES,
    decode_booleans,
    decode_integers,
    decode_strings,
    encode_booleans,
    encode_integers,
    encode_strings,
)
from tests.resources.tsm.writing import uvarint

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.lists(st.binary(max_size=20), min_size=1, max_size=30)


def snappy(text: bytes) -> bytes:
    return b"\x10" + bytes(cramjam.snappy.compress_raw(text))


@settings(max_examples=40)
@given(st.lists(INT64 | st.integers(-3, 3), min_size=1, max_size=80))
def test_integers_come_back(numbers: list[int]) -> None:
    values = np.array(numbers, dtype=np.int64)
    assert decode_integers(encode_integers(values), len(values)).tolist() == numbers


@settings(max_examples=40)
@given(INT64, INT64, st.integers(2, 300))
def test_integers_that_grow_evenly_come_back(first: int, step: int, n: int) -> None:
    numbers = [(first + i * step + 2**63) % 2**64 - 2**63 for i in range(n)]
    values = np.array(numbers, dtype=np.int64)
    assert decode_integers(encode_integers(values), n).tolist() == numbers


@settings(max_examples=40)
@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_booleans_come_back(flags: list[bool]) -> None:
    data = encode_booleans(np.array(flags))
    assert decode_booleans(data, len(flags)).tolist() == flags


@settings(max_examples=40)
@given(TEXTS)
def test_strings_come_back_though_they_are_no_text(texts: list[bytes]) -> None:
    assert decode_strings(encode_strings(texts), len(texts)) == texts


@pytest.mark.parametrize("n", [8, 10])
def test_another_number_of_booleans_is_refused(n: int) -> None:
    data = encode_booleans(np.array([True] * 9))
    with pytest.raises(BlockUndecodable, match=f"9 booleans for {n}"):
        decode_booleans(data, n)
    with pytest.raises(BlockUndecodable, match="9 booleans in 1 bytes"):
        decode_booleans(data[:-1], 9)
    with pytest.raises(BlockUndecodable, match="begin with nothing"):
        decode_booleans(b"", 9)


def test_another_number_of_strings_is_refused() -> None:
    data = encode_strings([b"a", b"b", b"c", b"d"])
    with pytest.raises(BlockUndecodable, match="more than 3 strings, not 2"):
        decode_strings(data, 2)
    with pytest.raises(BlockUndecodable, match="4 strings, not 5"):
        decode_strings(data, 5)


def test_a_string_that_reaches_beyond_the_block_is_refused() -> None:
    with pytest.raises(BlockUndecodable, match="a string of 9 bytes where 1 are left"):
        decode_strings(snappy(b"\x09a"), 1)
    with pytest.raises(BlockUndecodable, match="number cut"):
        decode_strings(snappy(b"\xff"), 1)


@pytest.mark.parametrize("declared", [MAX_STRING_BYTES + 1, 2**40, 65])
def test_a_block_that_declares_more_than_it_can_become_takes_no_memory(declared: int) -> None:
    data = b"\x10" + uvarint(declared)
    with pytest.raises(BlockUndecodable, match=f"declare to become {declared}"):
        decode_strings(data, 1)


@settings(max_examples=40)
@given(st.binary(max_size=60), st.integers(1, 10))
def test_hostile_bytes_give_as_many_strings_as_asked_for_or_our_error(data: bytes, n: int) -> None:
    with contextlib.suppress(BlockUndecodable):
        assert len(decode_strings(b"\x10" + data, n)) == n
