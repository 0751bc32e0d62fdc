"""Reads values by key and type from the JSON objects of a reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from resources.errors import BadReply
from resources.protocol.snapshotter import MAX_UINT64
from resources.protocol.strict_json import Json, decode_json, is_array, is_integer, is_object
from resources.protocol.times import parse_time

T = TypeVar("T")


class ErrorInstead(BadReply):
    """The server reports an error; `reply` is its unchecked reason."""

    def __init__(self, reply: object) -> None:
        super().__init__("an error instead of a result")
        self.message = reply


class ReplyFields:
    """An object of a reply.

    Every method raises BadReply if the key is missing or its value has another type.
    """

    def __init__(self, values: Json, name: str) -> None:
        self._values = values
        self._name = name

    @classmethod
    def of(cls, raw: bytes, name: str) -> ReplyFields:
        return cls.item(decode_json(raw, name), name)

    @classmethod
    def item(cls, value: object, name: str) -> ReplyFields:
        if not is_object(value):
            raise BadReply(f"{name} holds something that is not an object")
        return cls(value, name)

    def text(self, key: str) -> str:
        value = self._get(key)
        if not isinstance(value, str):
            raise BadReply(f"{self._name}: {key} is not a string")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """An array of strings; null is an empty one."""
        value = self._get(key)
        if value is None:
            return ()
        if not is_array(value) or not all(isinstance(text, str) for text in value):
            raise BadReply(f"{self._name}: {key} is not an array of strings")
        return tuple(value)

    def uint(self, key: str, limit: int = MAX_UINT64) -> int:
        value = self._get(key)
        if not is_integer(value) or not 0 <= value <= limit:
            raise BadReply(f"{self._name}: {key} is not an integer of 0 to {limit}")
        return value

    def time(self, key: str) -> int | None:
        return parse_time(self.text(key), f"{self._name}: {key}")

    def each(self, key: str, read: Callable[[ReplyFields], T]) -> tuple[T, ...]:
        """An array of objects; null is an empty one."""
        return each_field(self._get(key), f"{self._name}: {key}", read)

    def _get(self, key: str) -> object:
        if key not in self._values:
            raise BadReply(f"{self._name} lacks {key}")
        return self._values[key]


def each_field(value: object, name: str, read: Callable[[ReplyFields], T]) -> tuple[T, ...]:
    """Read the objects of an array; null is an empty one.

    Raises:
        BadReply: the value is not an array of such objects.
    """
    if value is None:
        return ()
    if not is_array(value):
        raise BadReply(f"{name} is not an array")
    return tuple(read(ReplyFields.item(item, name)) for item in value)
