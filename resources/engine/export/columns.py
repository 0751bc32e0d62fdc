"""The columns of a table of points: the tags and fields that any of its series has."""

from __future__ import annotations

from collections.abc import Iterator

from resources.model import ShardPlace
from resources.points.series import parse_key
from resources.tsm.merge import SeriesPoints


class Columns:
    """A visitor of an export that notes names.

    Attributes:
        tags, fields: in the order of their bytes.
    """

    def __init__(self) -> None:
        self._tags: set[bytes] = set()
        self._fields: set[bytes] = set()

    def __call__(self, _: ShardPlace, points: Iterator[SeriesPoints]) -> None:
        for one in points:
            name, field = parse_key(one.key)
            self._tags.update(tag for tag, _ in name.tags)
            self._fields.add(field)

    @property
    def tags(self) -> list[bytes]:
        return sorted(self._tags)

    @property
    def fields(self) -> list[bytes]:
        return sorted(self._fields)
