"""Strings and tags as text or bytes, as the caller chooses; nothing is replaced unasked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from resources.errors import TSMError, shown
from resources.points.table import Column

Strings: TypeAlias = Literal["str", "bytes"]
"""How strings and tags are given; servers keep bytes, and do not check that they are UTF-8."""


class PointsNotText(TSMError):
    """A string or a tag is no UTF-8, and text was asked for."""


def require_text(values: Iterable[bytes | None], column: Column) -> None:
    """Check that values are UTF-8.

    Raises:
        PointsNotText: one is not.
    """
    for value in values:
        if value is not None and not value.isascii():
            text_of(value, column)


def text_of(value: bytes, column: Column) -> str:
    """A value as text.

    Raises:
        PointsNotText: it is no UTF-8.
    """
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise PointsNotText(
            f"a value of the {column.kind} {shown(column.name)} is no UTF-8: "
            f"{shown(value.decode('utf-8', 'backslashreplace'))}",
            hint='strings="bytes" keeps the bytes as they are; so does export -strings bytes',
        ) from None
