r"""A key of a TSM file as names: measurement, tags and field.

A key is escaped as in line protocol: a backslash stands before commas and spaces, and in tags and
their values also before equals signs. Every other backslash is one.

Source: influxdb models/points.go, ParseKeyBytes, scanMeasurement, unescapeMeasurement, unescapeTag.
"""

from __future__ import annotations

import re

from msgspec import Struct

from resources.errors import TSMError
from resources.tsm.layout import SEPARATOR, shown

_MEASUREMENT_END = re.compile(rb"(?<!\\),")
_TAG = re.compile(rb"((?:[^\\,=]|\\.|\\\Z)*)=((?:[^\\,]|\\.|\\\Z)*)(?:,|\Z)", re.DOTALL)
_ESCAPED = re.compile(rb"\\([, ])")
_ESCAPED_IN_TAG = re.compile(rb"\\([, =])")


class SeriesName(Struct, frozen=True):
    """What a series is called; names are bytes, as the server keeps them."""

    measurement: bytes
    tags: tuple[tuple[bytes, bytes], ...]
    """In the order of the key, which is by name."""


def measurement_of(key: bytes) -> bytes:
    """The measurement of a key, or of the key of a series, without its escapes."""
    series, _, _ = key.partition(SEPARATOR)
    end = _MEASUREMENT_END.search(series)
    return _ESCAPED.sub(rb"\1", series[: end.start()] if end else series)


def parse_series(series: bytes) -> SeriesName:
    """Split the key of a series.

    Raises:
        TSMError: what follows the measurement is no list of tags.
    """
    end = _MEASUREMENT_END.search(series)
    if end is None:
        return SeriesName(_ESCAPED.sub(rb"\1", series), ())
    tags: list[tuple[bytes, bytes]] = []
    at = end.end()
    while at < len(series):
        found = _TAG.match(series, at)
        if found is None:
            raise TSMError(f"{shown(series)}: what follows byte {at} is no tag")
        name, value = (_ESCAPED_IN_TAG.sub(rb"\1", part) for part in found.groups())
        tags.append((name, value))
        at = found.end()
    return SeriesName(_ESCAPED.sub(rb"\1", series[: end.start()]), tuple(tags))
