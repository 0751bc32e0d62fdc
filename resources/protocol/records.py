"""Frozen dataclasses ↔ protobuf messages, field by field.

A record's fields stand in the order of its message's. `None` is a field that is absent; an
optional field that is absent takes the record's default. Nothing that a message does not
know passes, in either direction.
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
        PlanError: a number is out of range, or text is no Unicode.
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
    """Make a record of a message that was parsed strictly.

    Raises:
        BadReply: fields that the message's kind does not have, or text that is not UTF-8.
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
    """Parse strictly, and insist that nothing in it is unknown.

    Raises:
        BadReply: not such a message, or more than that.
    """
    message = parse_strictly(kind, raw, name)
    require_known(message)
    return message


def require_known(message: Message) -> None:
    if len(UnknownFieldSet(message)):
        raise BadReply(f"{_name(message)} holds fields that it does not have")


@contextmanager
def fitting(what: str) -> Generator[None]:
    """Turn protobuf's objection to a value into an error of ours, without the value."""
    try:
        yield
    except ValueError:  # also UnicodeEncodeError
        raise PlanError(f"{what} is out of range") from None


def _name(message: Message) -> str:
    return message.DESCRIPTOR.name
