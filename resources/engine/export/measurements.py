"""What the points of a backup are about: series, fields, types and times of each measurement."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from resources.model import ShardPlace
from resources.points.series import measurement_of
from resources.tsm.layout import BlockType, split_key
from resources.tsm.merge import SeriesPoints

Hashes = NDArray[np.uint64]


class FieldFacts(Struct):
    """One field of a measurement."""

    types: set[BlockType] = field(default_factory=set[BlockType])
    """More than one if shards differ."""
    values: int = 0


class MeasurementFacts(Struct):
    """One measurement of a retention policy."""

    fields: dict[bytes, FieldFacts] = field(default_factory=dict[bytes, FieldFacts])
    min_time_ns: int | None = None
    max_time_ns: int | None = None
    series: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    """64 bits of a digest of each series, which are counted: 8 bytes for each."""

    @property
    def values(self) -> int:
        """Field values, each time of a field counted once."""
        return sum(found.values for found in self.fields.values())

    def add(self, name: bytes, points: SeriesPoints) -> None:
        """Count the points of one key."""
        facts = self.fields.setdefault(name, FieldFacts())
        facts.types.add(points.type)
        facts.values += len(points.times)
        first, last = int(points.times[0]), int(points.times[-1])
        self.min_time_ns = first if self.min_time_ns is None else min(self.min_time_ns, first)
        self.max_time_ns = last if self.max_time_ns is None else max(self.max_time_ns, last)


class Measurements:
    """A visitor of an export that counts.

    Attributes:
        found: by database, policy and measurement.
    """

    def __init__(self) -> None:
        self.found: dict[tuple[str, str, bytes], MeasurementFacts] = {}

    def __call__(self, place: ShardPlace, points: Iterator[SeriesPoints]) -> None:
        hashes: dict[bytes, list[int]] = {}
        previous = b""
        for one in points:
            measurement = measurement_of(one.key)
            key = place.database, place.policy, measurement
            series, name = split_key(one.key)
            self.found.setdefault(key, MeasurementFacts()).add(name, one)
            if series != previous:  # the fields of a series are adjacent
                hashes.setdefault(measurement, []).append(_hash(series))
                previous = series
        for measurement, seen in hashes.items():
            facts = self.found[place.database, place.policy, measurement]
            facts.series = np.union1d(facts.series, np.array(seen, np.uint64))


def _hash(series: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(series, digest_size=8).digest())
