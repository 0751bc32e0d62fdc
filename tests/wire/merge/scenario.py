"""A merge, and what it leaves."""

from __future__ import annotations

from pathlib import Path

from tests.influxd import Influxd
from tests.wire.commands import Done, at, shardkeeper
from tests.wire.points import databases

WEEK_NS = 604_800 * 10**9
T0 = 1_600_000_000 * 10**9


def merge(server: Influxd, directory: Path, *flags: object) -> Done:
    return shardkeeper("merge", *at(server), *flags, directory)


def leftovers(server: Influxd, directory: Path) -> list[str]:
    """What a finished merge has taken away again."""
    names = [name for name in databases(server) if name.startswith("shardkeeper_merge")]
    return names + [path.name for path in directory.glob(".shardkeeper.merge*")]
