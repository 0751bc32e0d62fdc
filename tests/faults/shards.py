"""The shards of a database on a server, and the stream of one."""

from __future__ import annotations

from resources.clients.snapshotter import SnapshotterClient
from tests.influxd import Influxd
from tests.wire.raw import raw_shard


def shards_of(server: Influxd, db: str) -> list[int]:
    [result] = server.query("SHOW SHARDS")
    found = [s for s in result["series"] if s["name"] == db]
    return sorted(row[0] for series in found for row in series.get("values", []))


def stream_of(server: Influxd, shard: int) -> bytes:
    return raw_shard(SnapshotterClient(server.bind_addr), shard)
