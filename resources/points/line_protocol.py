r"""Points as line protocol, typed and exact.

One value a line: series key SP field = value SP time in ns. The key is taken from the file, where
it is escaped as in line protocol.

Source: influxdb models/points.go, scanLine, scanKey, scanFields; Point.AppendString.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from resources.tsm.layout import BlockType, split_key
from resources.tsm.merge import SeriesPoints

_IN_FIELD = re.compile(rb'([,"= ])')
_IN_STRING = re.compile(rb'(["\\])')
_ATOM = rb"(?:[^\\,= \x00-\x1f]|\\[,= \n]|\\(?=[^\\,= \x00-\x1f]))"
_SERIES = re.compile(rb"(?!#)(?:%s|=)+(?:,%s+=%s+)*" % (_ATOM, _ATOM, _ATOM))
_FIELD = re.compile(rb'(?:[^\\\x00-\x1f]|\\(?=[^\\,= "\x00-\x1f]))+')
"""Names that servers read as written; servers also take other names, but change them."""


def can_be_written(key: bytes) -> bool:
    """Whether a line can express this key, so that a server reads exactly the same key from it.

    A file may have names that no line can express: they begin like a comment, hold control
    characters, end with a backslash, or have a backslash where it would escape what follows.

    Raises:
        TSMError: it is not a key.
    """
    series, field = split_key(key)
    return bool(_SERIES.fullmatch(series) and _FIELD.fullmatch(field))


def lines_of(points: SeriesPoints) -> Iterator[bytes]:
    """One line, with its end, for each point."""
    series, field = split_key(points.key)
    head = series + b" " + _IN_FIELD.sub(rb"\\\1", field) + b"="
    for time_ns, value in zip(points.times.tolist(), _texts(points), strict=True):
        yield b"%s%s %d\n" % (head, value, time_ns)


def _texts(points: SeriesPoints) -> Iterator[bytes]:
    values = points.values
    if isinstance(values, list):
        return (b'"' + _IN_STRING.sub(rb"\\\1", value) + b'"' for value in values)
    each = values.tolist()
    match points.type:
        case BlockType.BOOLEAN:
            return (b"true" if value else b"false" for value in each)
        case BlockType.FLOAT:
            return (repr(value).encode() for value in each)  # the shortest that reads back equal
        case BlockType.UNSIGNED:
            return (b"%du" % value for value in each)
        case _:
            return (b"%di" % value for value in each)
