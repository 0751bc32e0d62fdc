"""The columns of a measurement: time, then tags, then fields, each with one type.

A field may have another type in another shard. Each of its types has a column then: the column
with the field's name has the type that comes first in `PRECEDENCE`, which is the one that servers
show; the other columns end with their type, as in `usage_integer`. No value is converted.

Names of columns are text and differ; a name that would repeat another gets `_tag` or `_field`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

from msgspec import Struct

from resources.tsm.layout import BlockType

TIME = "time"
PRECEDENCE = (
    BlockType.FLOAT,
    BlockType.INTEGER,
    BlockType.UNSIGNED,
    BlockType.STRING,
    BlockType.BOOLEAN,
)
"""Source: influxql ast.go, DataType.LessThan; tsdb/shard.go, Shards.MapType."""


class Kind(StrEnum):
    """What a column holds."""

    TAG = "tag"
    FIELD = "field"


class Column(Struct, frozen=True):
    """A tag or a field of one type."""

    name: str
    """Unique among the columns."""
    kind: Kind
    source: bytes
    """The name as the server keeps it."""
    type: BlockType | None = None
    """None for a tag."""

    @property
    def type_name(self) -> str:
        return "tag" if self.type is None else self.type.name.lower()


class Table(Struct, frozen=True):
    """The columns of a measurement, without `time`, which comes first."""

    columns: tuple[Column, ...] = ()

    @classmethod
    def of(cls, tags: Collection[bytes], fields: Mapping[bytes, Collection[BlockType]]) -> Table:
        """The columns of these tags and fields, by name; tags first."""
        taken = {TIME}
        columns = [
            Column(_unique(_text(tag), "_tag", taken), Kind.TAG, tag) for tag in sorted(tags)
        ]
        later: list[tuple[bytes, BlockType]] = []
        for name, types in sorted(fields.items()):
            first, *others = sorted(types, key=PRECEDENCE.index)
            text = _unique(_text(name), "_field", taken)
            columns.append(Column(text, Kind.FIELD, name, first))
            later += [(name, other) for other in others]
        # Last, so that they take no name from a field.
        for name, kind in later:
            text = _unique(f"{_text(name)}_{kind.name.lower()}", "_field", taken)
            columns.append(Column(text, Kind.FIELD, name, kind))
        return cls(tuple(columns))

    @property
    def tags(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.kind is Kind.TAG)

    @property
    def fields(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.kind is Kind.FIELD)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _unique(text: str, ending: str, taken: set[str]) -> str:
    """A name that is not taken; it is taken then."""
    while text in taken:
        text += ending
    taken.add(text)
    return text
