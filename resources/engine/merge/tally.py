"""The findings of a comparison, summed by group and measurement, so that they stay small. Pure."""

from __future__ import annotations

import numpy as np
from msgspec import Struct, field

from resources.engine.merge.bundles import BackupGroup
from resources.engine.merge.compare import KeyFound
from resources.engine.merge.slices import Span
from resources.engine.merge.typed import There
from resources.errors import shown
from resources.model import ShardGroupID
from resources.points.series import measurement_of
from resources.tsm.layout import SEPARATOR, BlockType

VERBS = {
    There.MISSING: "is missing",
    There.OTHER: "has another value",
    There.TYPE: "has another type",
}
MAX_SHOWN = 300


class Open(Struct):
    """Points of one measurement in a group that are not there, and the first of them."""

    points: int
    first_ns: int
    last_ns: int
    example: str
    verb: str

    @property
    def span(self) -> Span:
        return Span(self.first_ns, self.last_ns + 1)


class GroupTally(Struct):
    """The findings in one group."""

    same: int = 0
    other: int = 0
    missing: int = 0
    open: dict[bytes, Open] = field(default_factory=dict[bytes, Open])
    """By measurement."""
    types: dict[tuple[bytes, bytes], set[BlockType]] = field(
        default_factory=dict[tuple[bytes, bytes], set[BlockType]]
    )
    """By measurement and field."""

    @property
    def points(self) -> int:
        return self.same + self.other + self.missing


class Tally:
    """A visitor of one comparison."""

    def __init__(self) -> None:
        self.groups: dict[ShardGroupID, GroupTally] = {}

    def __call__(self, found: KeyFound) -> None:
        group = self.of(found.group)
        n = np.bincount(found.codes, minlength=len(There))
        group.same += int(n[There.SAME])
        group.missing += int(n[There.MISSING])
        group.other += int(n[There.OTHER] + n[There.TYPE])
        measurement = measurement_of(found.points.key)
        name = found.points.key.partition(SEPARATOR)[2]
        group.types.setdefault((measurement, name), set()).add(found.points.type)
        if n[There.SAME] < len(found.codes):
            _note_open(group.open, measurement, found)

    def of(self, group: BackupGroup) -> GroupTally:
        return self.groups.setdefault(group.id, GroupTally())

    @property
    def same(self) -> int:
        return sum(group.same for group in self.groups.values())

    @property
    def open(self) -> int:
        """How many points are not there."""
        return sum(group.other + group.missing for group in self.groups.values())

    @property
    def missing(self) -> int:
        return sum(group.missing for group in self.groups.values())


def _note_open(open_: dict[bytes, Open], measurement: bytes, found: KeyFound) -> None:
    (rows,) = np.nonzero(found.codes != There.SAME)
    times = found.points.times[rows]
    first_ns, last_ns = int(times[0]), int(times[-1])
    there = open_.get(measurement)
    if there is None:
        code = There(int(found.codes[rows[0]]))
        value = found.points.values[int(rows[0])]
        open_[measurement] = Open(
            len(rows),
            first_ns,
            last_ns,
            _shown_point(found.points.key, value, first_ns),
            VERBS[code],
        )
        return
    there.points += len(rows)
    there.first_ns, there.last_ns = min(there.first_ns, first_ns), max(there.last_ns, last_ns)


def _shown_point(key: bytes, value: object, time_ns: int) -> str:
    series, _, name = key.partition(SEPARATOR)
    text = f"{value.decode(errors='replace')!r:.80}" if isinstance(value, bytes) else f"{value}"
    named = b"%s %s" % (series, name)
    return shown(f"{named.decode(errors='replace')}={text} at {time_ns}", MAX_SHOWN)
