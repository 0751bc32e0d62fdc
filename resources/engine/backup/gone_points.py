"""Which files of an earlier archive are lost, by their points; see `gone_files` for the rule.

Held by: tests/resources/engine/backup/test_gone_files.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from heapq import merge
from itertools import groupby
from operator import itemgetter

import numpy as np

from resources.repository.archives.unpacked import UnpackedShard
from resources.tsm.arrays import Ints
from resources.tsm.merge import SeriesPoints

NOTHING: Ints = np.empty(0, np.int64)
NOW = ""
"""Stands for what the server has now, where old files are known by name."""


def lost_files(old: UnpackedShard, new: UnpackedShard, suspects: Collection[str]) -> frozenset[str]:
    """Which of an earlier archive's files are lost, by their points.

    Args:
        suspects: names of files that are not there any more.

    Raises:
        TSMError: a file cannot be read.
    """
    missing, alive = set[str](), set[str]()
    for times in _by_key(old, new):
        for name in suspects:
            mine = times.get(name, NOTHING)
            gone = _without(mine, times[NOW])
            if len(gone):
                missing.add(name)
            if len(gone) < len(mine) and len(_only(name, np.setdiff1d(mine, gone), times)):
                alive.add(name)
    candidates = missing - alive
    return frozenset(_unexplained(old, new, candidates)) if candidates else frozenset()


def _unexplained(old: UnpackedShard, new: UnpackedShard, candidates: set[str]) -> Iterable[str]:
    """Those with a series of which no other file lacks points, as it would after a delete."""
    found = set[str]()
    for times in _by_key(old, new):
        theirs = [times[name] for name in candidates if name in times]
        known = np.concatenate([times[NOW], *theirs])
        if any(len(_without(t, known)) for n, t in times.items() if n not in (*candidates, NOW)):
            continue
        found |= {
            name for name in candidates if len(_without(times.get(name, NOTHING), times[NOW]))
        }
    return found


def _by_key(old: UnpackedShard, new: UnpackedShard) -> Iterator[Mapping[str, Ints]]:
    """For each series and field, the times in each old file, by name, and in the new ones."""
    walks = [_named(name, old.points_of(name)) for name in old.tsm_names]
    both = merge(_named(NOW, new.points()), *walks, key=itemgetter(0))
    for _, group in groupby(both, itemgetter(0)):
        yield {NOW: NOTHING} | {name: points.times for _, name, points in group}


def _named(name: str, walk: Iterator[SeriesPoints]) -> Iterator[tuple[bytes, str, SeriesPoints]]:
    return ((points.key, name, points) for points in walk)


def _only(name: str, mine: Ints, times: Mapping[str, Ints]) -> Ints:
    """What of a file's points no other old file has."""
    others = [t for other, t in times.items() if other not in (name, NOW)]
    return _without(mine, np.concatenate(others)) if others else mine


def _without(times: Ints, others: Ints) -> Ints:
    return np.setdiff1d(times, others) if len(others) else times
