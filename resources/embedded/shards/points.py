"""A point: the fields of one series at one time."""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

from resources.tsm.layout import BlockType

FieldValue: TypeAlias = float | int | bool | bytes
"""A value of the field's type; strings are bytes."""

Field: TypeAlias = tuple[bytes, BlockType, FieldValue]
"""Unescaped name, type, value."""

_IN_FIELD_NAME = re.compile(rb'([,"\ =])')
_IN_STRING = re.compile(rb'(["\\])')


class Point(NamedTuple):
    """The point of one line of line protocol."""

    series: bytes
    """The series key: escaped measurement and tags, tags in order."""
    time_ns: int
    fields: tuple[Field, ...]
    """At least one field."""
    text: bytes
    """The fields in line protocol, for the WAL."""


def made_point(series: bytes, time_ns: int, fields: tuple[Field, ...]) -> Point:
    """Make a point from values; its text parses to the same values."""
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
