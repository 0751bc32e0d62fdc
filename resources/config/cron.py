"""Checks cron schedules, so that the message names the field that Dagster would refuse."""

from __future__ import annotations

import re

FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    (
        "month",
        1,
        12,
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    ),
    ("day of the week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
NAMED = ("@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@annually", "@midnight")
EXAMPLE = "write five fields as in crontab, such as 0 2 * * *"
_PART = re.compile(r"(\*|[0-9]{1,4}|[a-z]{3})(?:-([0-9]{1,4}|[a-z]{3}))?(?:/([0-9]{1,4}))?")


def check_cron(text: str) -> None:
    """Check a schedule in crontab's form.

    Raises:
        ValueError: the schedule is invalid; the message names the wrong field.
    """
    if text.startswith("@"):
        if text not in NAMED:
            raise ValueError(f"{text!a} is none of {', '.join(NAMED)}")
        return
    words = text.split()
    if len(words) != len(FIELDS):
        raise ValueError(EXAMPLE)
    for word, (name, least, most, names) in zip(words, FIELDS, strict=True):
        for part in word.lower().split(","):
            found = _PART.fullmatch(part)
            if found is None or not _fits(found, least, most, names):
                raise ValueError(f"{word!a} is not a valid {name} ({least} to {most}): {EXAMPLE}")


def _fits(part: re.Match[str], least: int, most: int, names: tuple[str, ...]) -> bool:
    first, last = (_number(text, least, names) for text in part.groups()[:2])
    if part[3] is not None and not 1 <= int(part[3]) <= most:
        return False
    if part[1] == "*":
        return part[2] is None
    if first is None or not least <= first <= most:
        return False
    return part[2] is None or (last is not None and first <= last <= most)


def _number(text: str | None, least: int, names: tuple[str, ...]) -> int | None:
    if text is None or text == "*":
        return None
    if text.isdigit():
        return int(text)
    return names.index(text) + least if text in names else None
