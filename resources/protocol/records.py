"""Frozen dataclasses ↔ protobuf messages, field by field.

A record's fields have the order of its message's. `None` is an absent field; an absent optional
field gets the record's default. Unknown fields are refused in both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, cast

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from resources.errors import BadReply, PlanError
from resources.protocol.meta import parse_strictly

R = TypeVar("R")
M = TypeVar("M", bound=Message)

OF = "of"
"""Key in a dataclass field's metadata: the record type of a nested message."""


def write_record(record: object, message: Message) -> None:
    """Set the message's fields from the record's.

    Raises:
        PlanError: a number is out of range, or a text is not valid Unicode.
    """
    for mine, its in zip(fields(cast(Any, record)), message.DESCRIPTOR.fields, strict=True):
        value: object = getattr(record, mine.name)
        if value is None:
            continue
        if is_dataclass(value):
            nested: Message = getattr(message, its.name)
            nested.SetInParent()
            write_record(value, nested)
            continue
        with fitting(f"{type(record).__name__}.{mine.name}"):
            setattr(message, its.name, value)


def read_record(kind: type[R], message: Message) -> R:
    """Make a record of a strictly parsed message.

    Raises:
        BadReply: the message has unknown fields, or text that is not UTF-8.
    """
    require_known(message)
    values: dict[str, object] = {}
    for mine, its in zip(fields(cast(Any, kind)), message.DESCRIPTOR.fields, strict=True):
        if not message.HasField(its.name):
            if mine.default is MISSING:
                raise BadReply(f"{_name(message)} lacks {its.name}")
            continue
        value: object = getattr(message, its.name)
        if isinstance(value, Message):
            value = read_record(mine.metadata[OF], value)
        elif its.type == its.TYPE_STRING and not isinstance(value, str):
            raise BadReply(f"{_name(message)} holds text that is not UTF-8")
        values[mine.name] = value
    return kind(**values)


def parse_known(kind: Callable[[], M], raw: bytes, name: str) -> M:
    """Parse strictly, and require that the message has no unknown fields.

    Raises:
        BadReply: the message does not parse, or has unknown fields.
    """
    message = parse_strictly(kind, raw, name)
    require_known(message)
    return message


def require_known(message: Message) -> None:
    if len(UnknownFieldSet(message)):
        raise BadReply(f"{_name(message)} has unknown fields")


@contextmanager
def fitting(what: str) -> Generator[None]:
    """Turn protobuf's error about a value into a `PlanError` that does not repeat the value."""
    try:
        yield
    except ValueError:  # also UnicodeEncodeError
        raise PlanError(f"{what} is out of range") from None


def _name(message: Message) -> str:
    return message.DESCRIPTOR.name
