"""Small numbers packed into words: what is written is read, and sums are sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import BlockUndecodable
from resources.tsm import simple8b
from resources.tsm.time_counts import BITS, COUNTS, MAX_VALUE
from tests.resources.tsm.writing import words

NUMBERS = st.lists(
    st.integers(0, MAX_VALUE) | st.integers(0, 3) | st.just(1) | st.sampled_from([2**30, 2**15]),
    max_size=300,
)


@settings(max_examples=40)
@given(NUMBERS)
def test_numbers_come_back_whatever_their_sizes(numbers: list[int]) -> None:
    packed = simple8b.encode(np.array(numbers, dtype=np.uint64))
    assert len(packed) % 8 == 0
    assert simple8b.decode(packed, 0, len(numbers)).tolist() == numbers


@settings(max_examples=40)
@given(NUMBERS)
def test_the_sums_of_words_are_those_of_their_numbers(numbers: list[int]) -> None:
    packed = simple8b.encode(np.array(numbers, dtype=np.uint64))
    assert sum(simple8b.sums(packed).tolist()) == sum(numbers)


@pytest.mark.parametrize("selector", range(16))
def test_every_selector_holds_as_many_numbers_as_the_format_says(selector: int) -> None:
    bits, count = BITS[selector], COUNTS[selector]
    largest = (1 << bits) - 1
    full = selector << 60 | sum(largest << (i * bits) for i in range(count) if bits)
    expected = [largest if bits else 1] * count
    assert simple8b.decode(words([full]), 0, count).tolist() == expected
    assert simple8b.sums(words([full])).tolist() == [sum(expected)]


def test_words_that_a_sample_does_not_show_are_added_up_too() -> None:
    """Selectors in turn, but for the sampled words, which all have the same one."""
    many = 3 * simple8b.SAMPLED
    selectors = [2 + i % 14 if i % simple8b.SAMPLED else 15 for i in range(many)]
    packed = words([selector << 60 | 1 for selector in selectors])
    assert simple8b.sums(packed).tolist() == [1] * many


def test_numbers_stand_in_a_word_from_the_lowest_bit_up() -> None:
    assert simple8b.decode(words([14 << 60 | 2 << 30 | 1]), 0, 2).tolist() == [1, 2]


def test_ones_take_a_word_without_bits_only_where_all_up_to_the_end_are_ones() -> None:
    def selectors(numbers: list[int]) -> list[int]:
        packed = simple8b.encode(np.array(numbers, dtype=np.uint64))
        return [packed[i] >> 4 for i in range(0, len(packed), 8)]

    assert selectors([1] * 240) == [0]
    assert selectors([5] + [1] * 239)[-1] != 0
    assert selectors([1] * 240 + [0])[0] == 2
    assert selectors([1] * 360) == [0, 1]


def test_half_a_word_is_refused() -> None:
    for cut in range(1, 8):
        with pytest.raises(BlockUndecodable, match="end inside a word"):
            simple8b.decode(words([15 << 60])[:cut], 0, 1)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_another_number_of_numbers_is_refused(n: int) -> None:
    with pytest.raises(BlockUndecodable, match=f"are 2, not {n}"):
        simple8b.decode(words([14 << 60]), 0, n)


def test_words_may_begin_anywhere() -> None:
    assert simple8b.decode(b"xyz" + words([15 << 60 | 7]), 3, 1).tolist() == [7]


def test_no_numbers_take_no_words() -> None:
    assert simple8b.encode(np.array([], dtype=np.uint64)) == b""
    assert simple8b.decode(b"", 0, 0).tolist() == []
