"""A strict reader for untrusted JSON; its caller limits the size."""

from __future__ import annotations

import json
from typing import Any, TypeGuard, cast

from resources.errors import BadReply

Json = dict[str, Any]


def decode_json(raw: bytes, name: str) -> object:
    """Decode one JSON value of UTF-8 text, whose size the caller has checked.

    Python's reader accepts NaN, infinities and duplicate keys (the last wins), and overflows its
    stack on deep nesting; all of these are refused here. Integers stay exact.

    Raises:
        BadReply: the text is not JSON, or has one of the above.
    """
    try:
        return _DECODER.decode(raw.decode())
    except RecursionError:
        raise BadReply(f"{name} nests too deep") from None
    except ValueError as error:  # also UnicodeDecodeError, JSONDecodeError, huge integers
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)[:120]
        raise BadReply(f"{name} is not JSON: {reason}") from None


def is_object(value: object) -> TypeGuard[Json]:
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def is_integer(value: object) -> TypeGuard[int]:
    """Whether the value is an integer; `true` is none, although Python's bool is an int."""
    return isinstance(value, int) and not isinstance(value, bool)


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is no number of JSON")


def _no_duplicates(pairs: list[tuple[str, object]]) -> Json:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return cast(Json, value)


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
"""Shared, since making a decoder takes longer than decoding a short text."""
