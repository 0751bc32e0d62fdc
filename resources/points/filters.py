"""Which points of a shard are wanted: by measurement, tags, fields and time."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from resources.model import ShardGroupInfo
from resources.points.series import measurement_of, parse_series
from resources.tsm.layout import split_key
from resources.tsm.merge import MAX_TIME_NS, MIN_TIME_NS

MIN_NS, MAX_NS = MIN_TIME_NS, MAX_TIME_NS


class PointFilter(Struct, frozen=True):
    """What is wanted; without values everything is.

    Attributes:
        tags: the value that each of these tags has; an empty value also means: no such tag.
        start_ns, end_ns: the first time, inclusive, and the last, exclusive.
    """

    measurement: bytes | None = None
    tags: Mapping[bytes, bytes] = field(default_factory=dict)
    fields: frozenset[bytes] = frozenset()
    start_ns: int = MIN_NS
    end_ns: int = MAX_NS

    @property
    def times(self) -> tuple[int, int] | None:
        """The range of times, or None if all times are wanted."""
        times = self.start_ns, self.end_ns
        return None if times == (MIN_NS, MAX_NS) else times

    def wants_group(self, group: ShardGroupInfo) -> bool:
        """Whether a shard group may have wanted points."""
        return group.end_time_ns > self.start_ns and group.start_time_ns < self.end_ns

    def wants_key(self, key: bytes) -> bool:
        """Whether the points of a key are wanted.

        Raises:
            TSMError: it is no key.
        """
        if self.measurement is not None and measurement_of(key) != self.measurement:
            return False
        series, field_name = split_key(key)
        if self.fields and field_name not in self.fields:
            return False
        if not self.tags:
            return True
        tags = dict(parse_series(series).tags)
        return all(tags.get(name, b"") == value for name, value in self.tags.items())
