"""What crontab takes and Dagster's scheduler understands is taken; all else is refused by field."""

from __future__ import annotations

import pytest
from dagster._utils.schedules import is_valid_cron_schedule
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.config.cron import EXAMPLE, NAMED, check_cron


def complaint(text: str) -> str:
    with pytest.raises(ValueError, match=r".+") as refused:
        check_cron(text)
    return str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        *NAMED,
        "0 2 * * *",
        "*/15 * * * *",
        "59 23 31 12 7",
        "0 0 1 1 0",
        "0,30 8-18/2 * jan-MAR mon-fri",
        "  0   2  *  *  sun  ",
    ],
)
def test_times_of_crontab_are_taken(text: str) -> None:
    check_cron(text)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("60 * * * *", "minute"),
        ("-1 * * * *", "minute"),
        ("*/0 * * * *", "minute"),
        ("*/60 * * * *", "minute"),
        ("*-5 * * * *", "minute"),
        ("0, * * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("0 18-8 * * *", "hour"),
        ("0 8-24 * * *", "hour"),
        ("0 0 0 * *", "day of the month"),
        ("0 0 32 * *", "day of the month"),
        ("0 0 * 13 *", "month"),
        ("0 0 * sun *", "month"),
        ("0 0 * * 8", "day of the week"),
        ("0 0 * * jan", "day of the week"),
        ("0 0 * * mon-x", "day of the week"),
    ],
)
def test_a_field_that_names_no_time_is_named(text: str, field: str) -> None:
    assert f"is not a valid {field} (" in complaint(text)


@pytest.mark.parametrize("text", ["", "daily", "* * * *", "* * * * * *"])
def test_another_number_of_fields_is_answered_with_an_example(text: str) -> None:
    assert complaint(text) == EXAMPLE


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    assert complaint("@reboot").startswith("'@reboot' is none of @hourly, @daily")


def test_a_number_of_any_length_is_refused_in_our_words() -> None:
    assert "is not a valid minute (0 to 59)" in complaint("9" * 5000 + " * * * *")


WORDS = st.sampled_from(["*", "0", "5", "12", "*/2", "1-5", "1,3", "99", "7", "jan", "mon", "x"])


@settings(max_examples=40)
@given(st.tuples(WORDS, WORDS, WORDS, WORDS, WORDS))
def test_whatever_is_taken_dagster_takes_too(words: tuple[str, ...]) -> None:
    text = " ".join(words)
    try:
        check_cron(text)
    except ValueError:
        return
    assert is_valid_cron_schedule(text)
