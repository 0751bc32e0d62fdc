r"""Makes keys from names; `layout.split_key` splits them.

Layout: measurement { , tag = value }* #!~# field

A backslash escapes commas and spaces, and in tags and their values also equals signs; the field
is not escaped. Backslashes themselves have no escape. Tags are sorted by their escaped bytes:
`a-` comes before `a\,z`.

Source: influxdb models/points.go, scanKey, escapeTag; tsdb/engine/tsm1/engine.go,
SeriesFieldKeyBytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from resources.errors import TSMError
from resources.errors import shown as shown_name
from resources.tsm.layout import MAX_KEY_BYTES, SEPARATOR, shown

_IN_MEASUREMENT = str.maketrans({",": r"\,", " ": r"\ "})
_WOULD_ESCAPE = re.compile(r"\\(?:[,= ]|\Z)")
_IN_TAG = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\="})


def series_key(measurement: str, tags: Mapping[str, str]) -> bytes:
    """Make the key of a series; surrogate escapes represent bytes that are not UTF-8.

    Raises:
        TSMError: a name is empty, has a backslash that would escape the next character, or
            contains the separator of series and field.
    """
    parts = [_escaped(measurement, _IN_MEASUREMENT)]
    named = sorted((_escaped(tag, _IN_TAG), _escaped(tags[tag], _IN_TAG)) for tag in tags)
    parts += [tag + b"=" + value for tag, value in named]
    series = b",".join(parts)
    if SEPARATOR in series + SEPARATOR[:-1]:
        raise TSMError(f"{shown(series)} cannot be a series: it holds {SEPARATOR.decode()}")
    return series


def tsm_key(measurement: str, tags: Mapping[str, str], field: str) -> bytes:
    """Make the key of a field of a series in a TSM file.

    Raises:
        TSMError: as `series_key`; or the field is empty, or the key exceeds MAX_KEY_BYTES.
    """
    key = series_key(measurement, tags) + SEPARATOR + _encoded(field)
    if len(key) > MAX_KEY_BYTES:
        raise TSMError(f"{shown(key)} is too long for a key: over {MAX_KEY_BYTES} bytes")
    return key


def _escaped(name: str, escapes: Mapping[int, str]) -> bytes:
    if _WOULD_ESCAPE.search(name):
        raise TSMError(
            f"{shown_name(name)} cannot be part of a series: it has a backslash in front of"
            " a comma, a space, an equals sign or its end"
        )
    return _encoded(name.translate(escapes))


def _encoded(name: str) -> bytes:
    if not name:
        raise TSMError("measurements, tags, their values and fields cannot be empty")
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise TSMError(f"{shown_name(name)} has no bytes: it holds half a surrogate pair") from None
