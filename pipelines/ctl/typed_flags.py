"""A command receives its flags as one value with types, instead of a keyword for each.

click knows flags at run time only. So the types of a value's fields are compared with what click
gives, each time, and a command that is wrong about a flag fails its first test.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar

from msgspec import Struct, convert

Command = Callable[..., None]
Flags = TypeVar("Flags", bound=Struct)


def taken(kind: type[Flags], given: dict[str, Any]) -> Flags:
    """Take the flags that are fields of `kind` out of those that are given.

    Raises:
        KeyError: the command has no such flag.
        ValidationError: it has one of another type.
    """
    return convert({name: given.pop(name) for name in kind.__struct_fields__}, kind)


def takes(**kinds: type[Struct]) -> Callable[[Command], Command]:
    """Give a command values of these kinds, under these names; it stands right above it."""

    def decorate(command: Command) -> Command:
        def with_values(*args: Any, **given: Any) -> None:
            values = {name: taken(kind, given) for name, kind in kinds.items()}
            command(*args, **values, **given)

        return update_wrapper(with_values, command)

    return decorate
