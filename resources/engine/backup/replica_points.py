"""Which replica of a shard has every point? Replicas are read and compared, point by point.

Sizes and times do not show it: a node that was down while points were written looks newest after
a backup has made it write its cache. So only the points of a replica count:

- a replica that has all points of another, with equal values, is as good or better;
- if each of two has points that the other does not have, neither is complete, and the shard is
  named.

Points may be written meanwhile. Of two replicas that are read one after the other, the later one
may have more; if the earlier one has points that the later one does not have, it is read again.

Held by: tests/resources/engine/backup/test_replica_points.py; tests/wire/test_cluster_replicas.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self, cast

import numpy as np
from msgspec import Struct, field

from resources.errors import counted
from resources.repository.archives.unpacked import UnpackedShard
from resources.repository.formats.owner_facts import Holds
from resources.tsm.arrays import Ints
from resources.tsm.blocks import Values
from resources.tsm.merge import SeriesPoints

Read = Callable[[str], UnpackedShard]
"""Reads a node's whole replica."""


class Difference(Struct, frozen=True):
    """How two replicas differ, in points; a point is one value of one field."""

    only_first: int = 0
    only_second: int = 0
    values: int = 0
    """Points that both have, with different values."""

    @property
    def second_is_whole(self) -> bool:
        """Whether the second has all that the first has."""
        return not self.only_first and not self.values

    @property
    def first_is_whole(self) -> bool:
        return not self.only_second and not self.values


class Ranking(Struct, frozen=True):
    """The result of comparing the replicas of a shard."""

    best: str
    """The node to read; its replica has all points of the others, unless `gaps` is set."""
    holds: dict[str, Holds] = field(default_factory=dict[str, Holds])
    """By node: how its replica compares with the best."""
    described: tuple[str, ...] = ()
    """The differences, one line for each node."""
    gaps: str = ""
    """Points that others have and the best does not; empty if there are none."""


def rank(nodes: Sequence[str], read: Read) -> Ranking:
    """Read replicas one after the other and find one that has all points.

    Args:
        nodes: best first, as far as known; where replicas are equal, the first is taken.
        read: raises ShardkeeperError if a replica cannot be read.
    """
    with _Reading(read) as reading:
        best, holds = nodes[0], dict[str, Holds]()
        described: list[str] = []
        contested: list[str] = []
        reading.hold(best)
        for node in nodes[1:]:
            found = reading.compare(node)
            if not found.first_is_whole and not found.second_is_whole:
                reading.hold(best)  # writes in between are no difference
                found = reading.compare(node)
            if found == Difference():
                holds[node] = "same"
            elif found.first_is_whole:
                holds[node] = "less"
                described.append(_missing(node, found.only_first, best))
            elif found.second_is_whole:
                described.append(_missing(best, found.only_second, node))
                holds |= dict.fromkeys((*holds, best), "less")
                best = node
                reading.hold(best)
            else:
                worse = best if found.only_second > found.only_first else node
                best = node if worse == best else best
                contested.append(worse)
                reading.hold(best)
        gaps: list[str] = []
        for node in contested:
            found = reading.compare(node)
            holds[node] = "less" if found.first_is_whole else "other"
            described.append(_described(best, node, found))
            if not found.first_is_whole:
                gaps.append(described[-1])
    holds[best] = "same"
    return Ranking(best, holds, tuple(described), "; ".join(gaps))


class _Reading:
    """Holds one replica open and compares others with it."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._held: UnpackedShard | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._held is not None:
            self._held.close()

    def hold(self, node: str) -> None:
        """Read a node's replica and hold it from now on."""
        replica = self._read(node)
        if self._held is not None:
            self._held.close()
        self._held = replica

    def compare(self, node: str) -> Difference:
        """Compare another node's replica with the one that is held."""
        assert self._held is not None  # noqa: S101 - `hold` comes first
        with self._read(node) as other:
            return difference(self._held, other)


def difference(first: UnpackedShard, second: UnpackedShard) -> Difference:
    """Count the points that only one of two replicas has, and those with different values.

    Raises:
        TSMError: a file is broken.
    """
    ours, theirs = first.points(), second.points()
    one, other = next(ours, None), next(theirs, None)
    only_first = only_second = values = 0
    while one is not None or other is not None:
        if other is None or (one is not None and one.key < other.key):
            assert one is not None  # noqa: S101 - one of them is there
            only_first += len(one.times)
            one = next(ours, None)
        elif one is None or other.key < one.key:
            only_second += len(other.times)
            other = next(theirs, None)
        else:
            found = _of_key(one, other)
            only_first += found.only_first
            only_second += found.only_second
            values += found.values
            one, other = next(ours, None), next(theirs, None)
    return Difference(only_first, only_second, values)


def _of_key(one: SeriesPoints, other: SeriesPoints) -> Difference:
    common, at_one, at_other = np.intersect1d(
        one.times, other.times, assume_unique=True, return_indices=True
    )
    if one.type is not other.type:
        values = len(common)
    else:
        values = _different(one.values, other.values, at_one, at_other)
    return Difference(len(one.times) - len(common), len(other.times) - len(common), values)


def _different(ours: Values, theirs: Values, at_ours: Ints, at_theirs: Ints) -> int:
    if isinstance(ours, list) or isinstance(theirs, list):
        left, right = cast("list[bytes]", ours), cast("list[bytes]", theirs)
        return sum(left[int(at_ours[i])] != right[int(at_theirs[i])] for i in range(len(at_ours)))
    one, other = ours[at_ours], theirs[at_theirs]
    if one.dtype.kind == "f":  # NaN does not equal itself, but its bits do
        one, other = one.view(np.int64), other.view(np.int64)
    return int(np.count_nonzero(one != other))


def _missing(node: str, number: int, other: str) -> str:
    return f"{node} misses {counted(number, 'value')} that {other} has"


def _described(best: str, node: str, found: Difference) -> str:
    differing = counted(found.values, "value differs", "values differ")
    parts = [
        _missing(best, found.only_second, node) if found.only_second else "",
        _missing(node, found.only_first, best) if found.only_first else "",
        f"{differing} on {best} from those on {node}" if found.values else "",
    ]
    return ", and ".join(part for part in parts if part) or f"{node} has what {best} has"
