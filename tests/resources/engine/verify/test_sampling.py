"""A sample is the same all day, and after a round of days every archive has been read."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.engine.verify.sampling import Sample, today
from resources.errors import UsageError

NAMES = [f"20261122T0951{i % 60:02}Z.s{i}.tar.gz" for i in range(400)]
SAMPLES = st.one_of(
    st.integers(1, 10_000).map(lambda n: Sample(share=Fraction(n, 10_000))),
    st.integers(1, 50).map(lambda n: Sample(count=n)),
)


@pytest.mark.parametrize(
    ("text", "sample"),
    [
        ("10%", Sample(share=Fraction(1, 10))),
        ("2.5%", Sample(share=Fraction(1, 40))),
        ("100%", Sample(share=Fraction(1))),
        ("25", Sample(count=25)),
    ],
)
def test_a_share_or_a_number(text: str, sample: Sample) -> None:
    assert Sample.parse(text) == sample


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "-5", "10 %", "2.5", "1e3", "x", "%", "²"])
def test_what_is_no_sample_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Sample.parse(text)


@settings(max_examples=50)
@given(SAMPLES, st.integers(0, 40), st.integers(0, 10**6))
def test_a_round_reads_everything_and_each_day_something(
    sample: Sample, n: int, number: int
) -> None:
    names = NAMES[:n]
    parts = sample.parts(n)
    days = range(number * parts, (number + 1) * parts)
    if parts > 100:
        days = days[:3]
    chosen = [sample.choose(names, day) for day in days]
    assert all(chosen) or not names
    if len(days) == parts:
        assert set().union(*chosen) == set(names)


@settings(max_examples=30)
@given(SAMPLES, st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_the_same_day_reads_the_same_in_whatever_order_names_come(
    sample: Sample, day: int, rng: object
) -> None:
    shuffled = list(NAMES)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sample.choose(shuffled, day) == sample.choose(NAMES, day)


def test_a_sample_is_about_as_large_as_was_asked_for() -> None:
    day = today() // 10 * 10  # a round begins
    assert len(Sample(count=25).choose(NAMES, day)) == 25
    sizes = [len(Sample(share=Fraction(1, 10)).choose(NAMES, day + i)) for i in range(10)]
    assert sum(sizes) == len(NAMES)
    assert all(15 <= size <= 65 for size in sizes)


def test_a_weekly_reader_of_a_seventh_does_not_meet_the_same_part_each_time() -> None:
    sample = Sample(share=Fraction(1, 7))
    read = set[str]().union(*(sample.choose(NAMES, 7 * week) for week in range(52)))
    assert len(read) > 0.99 * len(NAMES)


def test_new_archives_do_not_keep_old_ones_from_their_turn() -> None:
    sample = Sample(share=Fraction(1, 10))
    read = set[str]()
    for day in range(10):
        read |= sample.choose(NAMES[: 100 + 30 * day], day)
    assert read >= set(NAMES[:100])
