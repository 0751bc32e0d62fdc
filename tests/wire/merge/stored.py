"""Every value of a database as its TSM files have it: with type, bit by bit.

JSON would not tell an integer from a float, -0.0 from 0, or bytes that are no text from others.
"""

from __future__ import annotations

import struct
from typing import Any, TypeAlias

from resources.clients.snapshotter import SnapshotterClient
from resources.model import ShardID
from resources.repository.archives.unpacked import UnpackedShard
from resources.tsm.layout import BlockType
from resources.tsm.merge import series_points

Key: TypeAlias = tuple[str, bytes, int]
"""Policy, TSM key, time."""
Value: TypeAlias = tuple[BlockType, Any]
"""Type and value; floats as their bits."""


def stored(tcp_addr: str, database: str) -> dict[Key, set[Value]]:
    """What all shards hold; several values where shards of one time have different ones."""
    found: dict[Key, set[Value]] = {}
    for shard in by_shard(tcp_addr, database).values():
        for key, value in shard.items():
            found.setdefault(key, set()).add(value)
    return found


def by_shard(tcp_addr: str, database: str) -> dict[ShardID, dict[Key, Value]]:
    """What each shard holds."""
    client = SnapshotterClient(tcp_addr)
    buffer = memoryview(bytearray(1 << 18))
    shards: dict[ShardID, dict[Key, Value]] = {}
    for path in client.shard_paths():
        if path.database != database:
            continue
        found = shards.setdefault(path.shard_id, {})
        with UnpackedShard(None) as unpacked:
            with client.open_shard(path.shard_id) as stream:
                while n := stream.recv_into(buffer):
                    unpacked.feed(buffer[:n])
            unpacked.finish()
            for points in series_points(unpacked.shard_files(apply_tombstones=True)):
                values = (
                    points.values if isinstance(points.values, list) else points.values.tolist()
                )
                for time, value in zip(points.times.tolist(), values, strict=True):
                    found[path.policy, points.key, time] = typed(points.type, value)
    return shards


def typed(kind: BlockType, value: Any) -> Value:
    return kind, struct.pack(">d", value) if kind is BlockType.FLOAT else value
