"""Points written to a shard store, what it then holds, and in which files."""

from __future__ import annotations

from collections.abc import Callable

from resources.embedded.shards.line_protocol import parse_lines
from resources.embedded.shards.points import Point
from resources.embedded.shards.store import ShardStore
from resources.model import ShardID

ONE = ShardID(1)
S = 1_000_000_000
NOW_NS = 1_795_000_000 * S
FIRST, SECOND = "000000001-000000001.tsm", "000000002-000000001.tsm"

Open = Callable[[], ShardStore]


def lines(text: str) -> list[Point]:
    parsed = parse_lines(text.encode(), now_ns=0)
    assert not parsed.errors
    return parsed.points


def held(store: ShardStore, shard_id: ShardID = ONE, *times: int) -> dict[str, list[object]]:
    """Times and values by TSM key."""
    return {
        found.key.decode(): list(
            zip(
                found.times.tolist(),
                found.values if isinstance(found.values, list) else found.values.tolist(),
                strict=True,
            )
        )
        for found in store.points(shard_id, None, *times)
    }


def files(store: ShardStore) -> list[str]:
    return sorted(path.name for path in (store.directory / "data/db/rp/1").iterdir())


def of(series: bytes) -> Callable[[bytes], bool]:
    return lambda key: key.startswith(series + b"#!~#")


EVERYTHING = (
    'm,k=a f=1.5,i=-3i,b=true,s="x y" 1\n'
    'm,k=a f=-0.25,i=9i,b=false,s="" 2\n'
    "m,k=b f=2 1\n"
    "other f=7 1"
)
