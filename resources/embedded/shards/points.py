"""Points: one time of one series, with its fields."""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

from resources.tsm.layout import BlockType

FieldValue: TypeAlias = float | int | bool | bytes
"""As the field's type says; strings are bytes."""

Field: TypeAlias = tuple[bytes, BlockType, FieldValue]
"""Name, unescaped; type; value."""

_IN_FIELD_NAME = re.compile(rb'([,"\ =])')
_IN_STRING = re.compile(rb'(["\\])')


class Point(NamedTuple):
    """What one line of line protocol says."""

    series: bytes
    """Series key: escaped measurement and tags, tags in order."""
    time_ns: int
    fields: tuple[Field, ...]
    """At least one."""
    text: bytes
    """The fields as line protocol has them, for logs of what was written."""


def made_point(series: bytes, time_ns: int, fields: tuple[Field, ...]) -> Point:
    """A point from values; its text is what parsing turns back into them."""
    text = b",".join(
        _IN_FIELD_NAME.sub(rb"\\\1", name) + b"=" + _written(kind, value)
        for name, kind, value in fields
    )
    return Point(series, time_ns, fields, text)


def _written(kind: BlockType, value: FieldValue) -> bytes:
    if isinstance(value, bytes):
        return b'"' + _IN_STRING.sub(rb"\\\1", value) + b'"'
    if kind is BlockType.BOOLEAN:
        return b"true" if value else b"false"
    if kind is BlockType.FLOAT:
        return repr(float(value)).encode()
    return f"{value}{'u' if kind is BlockType.UNSIGNED else 'i'}".encode()
