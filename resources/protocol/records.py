"""Values ↔ protobuf messages, field by field.

A record's fields have the order of its message's. `None` is an absent field; an absent optional
field gets the record's default. `NESTED` of a record has the types of those fields that are records
themselves. Unknown fields are refused in both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TypeAlias, TypeVar, cast

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from msgspec import Struct

from resources.errors import BadReply, PlanError
from resources.protocol.meta import parse_strictly

R = TypeVar("R", bound=Struct)
M = TypeVar("M", bound=Message)
Nested: TypeAlias = Mapping[str, type[Struct]]


def write_record(record: Struct, message: Message) -> None:
    """Set the message's fields from the record's.

    Raises:
        PlanError: a number is out of range, or a text is not valid Unicode.
    """
    names = record.__struct_fields__
    for mine, its in zip(names, message.DESCRIPTOR.fields, strict=True):
        value: object = getattr(record, mine)
        if value is None:
            continue
        if isinstance(value, Struct):
            nested: Message = getattr(message, its.name)
            nested.SetInParent()
            write_record(value, nested)
            continue
        with fitting(f"{type(record).__name__}.{mine}"):
            setattr(message, its.name, value)


def read_record(kind: type[R], message: Message) -> R:
    """Make a record of a strictly parsed message.

    Raises:
        BadReply: the message has unknown fields, or text that is not UTF-8.
    """
    require_known(message)
    values: dict[str, object] = {}
    names, nested = kind.__struct_fields__, cast("Nested", getattr(kind, "NESTED", {}))
    required = names[: len(names) - len(kind.__struct_defaults__)]
    for mine, its in zip(names, message.DESCRIPTOR.fields, strict=True):
        if not message.HasField(its.name):
            if mine in required:
                raise BadReply(f"{_name(message)} lacks {its.name}")
            continue
        value: object = getattr(message, its.name)
        if isinstance(value, Message):
            value = read_record(nested[mine], value)
        elif its.type == its.TYPE_STRING and not isinstance(value, str):
            raise BadReply(f"{_name(message)} holds text that is not UTF-8")
        values[mine] = value
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
