"""A strict reader for untrusted JSON; its caller limits the size.

A document is read in two steps. `decode_json` reads the text and refuses what Python's reader
takes: duplicate keys, of which msgspec takes the last one, NaN and infinities. `convert_json`
converts the result into a shape, a `msgspec.Struct`: a missing key and a value of another type or
out of range raise an error with their path. Keys that the shape does not have are ignored, so older
versions read the output of newer ones.

msgspec has no bounds above 2**63 - 1, so the user of a `UInt` compares it with `MAX_UINT64`.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, TypeGuard, TypeVar, cast

import msgspec

from resources.errors import BadReply

Json = dict[str, Any]
T = TypeVar("T")

MAX_UINT64 = (1 << 64) - 1
UInt = Annotated[int, msgspec.Meta(ge=0)]
"""A number from 0 to `MAX_UINT64`; its user checks the upper bound."""
Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_MAX_COMPLAINT = 160
_TYPES = {
    "int": "whole number",
    "float": "number",
    "str": "text",
    "array": "list",
    "bool": "true or false",
}
"""JSON's types in words that a reader of a broken file knows."""
_TYPE = re.compile(r"`(\w+)`")
_MISSING = re.compile(r"Object missing required field (\w+)")


class WrongVersion(BadReply):
    """A record has a version that its reader does not know."""


class Shape(msgspec.Struct, frozen=True, gc=False):
    """A JSON object of known keys; it holds no reference to itself."""


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
    except ValueError as error:
        raise BadReply(f"{name} is not JSON: {_reason(error, raw)}") from None


def _reason(error: ValueError, raw: bytes) -> str:
    """Why a text is no JSON: where it ends early or is broken."""
    if isinstance(error, json.JSONDecodeError):
        if not error.doc[error.pos :].strip() or error.msg.startswith("Unterminated"):
            return (
                "it is empty" if not error.doc.strip() else f"it ends early, after {len(raw)} bytes"
            )
        return f"it is damaged at line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8 text"
    return "a number has too many digits" if "digits" in str(error) else str(error)[:120]


def decode_as(shape: type[T], raw: bytes, name: str) -> T:
    """Decode JSON, whose size the caller has checked, and convert it into a shape.

    Raises:
        BadReply: as `decode_json` and `convert_json`.
    """
    return convert_json(decode_json(raw, name), shape, name)


def convert_json(value: object, shape: type[T], name: str) -> T:
    """Convert the result of `decode_json` into a shape.

    Raises:
        BadReply: the value has another shape; the message has the path.
    """
    try:
        return msgspec.convert(value, shape, str_keys=True)
    except msgspec.ValidationError as error:
        raise BadReply(f"{name}: {_complaint(error)}") from None
    except UnicodeEncodeError:  # msgspec quotes the value of a wrong type
        raise BadReply(f"{name} has a text that is half a character") from None
    except RecursionError:
        raise BadReply(f"{name} nests too deep") from None


def decode_record(shape: type[T], raw: bytes, name: str, *, version: int) -> T:
    """Decode a record of ours: an object whose `version` is the one that its reader knows.

    Raises:
        WrongVersion: it has another version.
        BadReply: as `decode_as`. The messages have the reason alone, without the name.
    """
    try:
        document = decode_json(raw, name)
        if is_object(document) and document.get("version", version) != version:
            raise WrongVersion(f"version {document['version']!r:.20}")
        return convert_json(document, shape, name)
    except BadReply as error:
        raise type(error)(error.what.removeprefix(name).removeprefix(":").strip()) from None


def too_great(name: str) -> BadReply:
    """The error of a number above `MAX_UINT64`."""
    return BadReply(f"{name}: a number is greater than {MAX_UINT64}")


def _complaint(error: msgspec.ValidationError) -> str:
    """The path, then the fault; quoted values are escaped."""
    what, _, path = str(error).partition(" - at `$")
    what = _TYPE.sub(lambda found: _TYPES.get(found[1], found[1]), what)
    what = what.replace("Expected ", "expected ").replace(", got ", ", found ")
    what = _MISSING.sub(r"\1 is missing", what).encode("unicode_escape").decode()
    what = what if len(what) <= _MAX_COMPLAINT else what[: _MAX_COMPLAINT - 3] + "..."
    path = path.replace("`", "").removeprefix(".")
    return f"{path}: {what}" if path else what


def is_object(value: object) -> TypeGuard[Json]:
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def is_integer(value: object) -> TypeGuard[int]:
    """Whether the value is an integer; `true` is none, although Python's bool is an int."""
    return isinstance(value, int) and not isinstance(value, bool)


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not a JSON number")


def _no_duplicates(pairs: list[tuple[str, object]]) -> Json:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return cast(Json, value)


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
"""Shared, since making a decoder takes longer than decoding a short text."""
