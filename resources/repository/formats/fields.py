"""Typed look-ups in a JSON object that somebody else wrote."""

from __future__ import annotations

from typing import Any, cast

from resources.errors import ManifestUnreadable

MAX_INTEGER = (1 << 64) - 1


class Fields:
    """One JSON object, with a name for messages; every look-up checks type and range.

    Keys are matched as written first and then without case, as Go's decoder does. There are forty
    look-ups for a shard and may be ten thousand shards, so what is right is found out first.

    Raises:
        ManifestUnreadable: from each look-up, if the key is absent without a default, of
            another type or out of range.
    """

    __slots__ = ("_name", "document")

    def __init__(self, document: dict[str, Any], *name: str | Fields | int) -> None:
        self.document = document
        self._name = name

    @property
    def name(self) -> str:
        """What to call it in messages; spelled only then."""
        return "".join(part.name if isinstance(part, Fields) else str(part) for part in self._name)

    def text(self, key: str, *, default: str | None = None) -> str:
        value = self.document.get(key)
        if type(value) is str:
            return value
        value = self._find(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "text")
        return value

    def integer(
        self,
        key: str,
        *,
        minimum: int = 0,
        maximum: int = MAX_INTEGER,
        default: int | None = None,
    ) -> int:
        value = self.document.get(key)
        if type(value) is int and minimum <= value <= maximum:
            return value
        value = self._find(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, value, "an integer")
        if not minimum <= value <= maximum:
            raise self._wrong(key, value, f"between {minimum} and {maximum}")
        return value

    def optional_integer(self, key: str, *, minimum: int = 0) -> int | None:
        value = self.document.get(key)
        if type(value) is int and minimum <= value <= MAX_INTEGER:
            return value
        return None if self._get(key) is None else self.integer(key, minimum=minimum)

    def boolean(self, key: str, *, default: bool | None = None) -> bool:
        value = self._find(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def object(self, key: str) -> Fields:
        value = self._find(key, None)
        if not isinstance(value, dict):
            raise self._wrong(key, value, "an object")
        return Fields(cast("dict[str, Any]", value), self, ": ", key)

    def optional_object(self, key: str) -> Fields | None:
        return None if self._get(key) is None else self.object(key)

    def objects(self, key: str) -> list[Fields]:
        """A list of objects; null and absent are the empty list, as Go writes it."""
        value = self._get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(key, value, "a list")
        items = cast("list[Any]", value)
        for place, item in enumerate(items):
            if not isinstance(item, dict):
                raise self._wrong(f"{key}[{place}]", item, "an object")
        return [Fields(item, self, f": {key}[", place, "]") for place, item in enumerate(items)]

    def integers(self, key: str) -> tuple[int, ...]:
        value = self._get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self._wrong(key, value, "a list")
        items = cast("list[Any]", value)
        for item in items:
            if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= MAX_INTEGER:
                raise self._wrong(key, item, "a list of non-negative integers")
        return tuple(items)

    def _get(self, key: str) -> Any:
        if key in self.document:
            return self.document[key]
        folded = key.casefold()
        return next((v for k, v in self.document.items() if k.casefold() == folded), None)

    def _find(self, key: str, default: Any) -> Any:
        value = self._get(key)
        if value is None:
            value = default
        if value is None:
            raise ManifestUnreadable(f"{self.name}: {key} is missing")
        return value

    def _wrong(self, key: str, value: Any, expected: str) -> ManifestUnreadable:
        shown = ascii(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return ManifestUnreadable(f"{self.name}: {key} is {shown}, expected {expected}")
