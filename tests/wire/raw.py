"""Shards as a real server sends them, without anything of ours between but the request."""

from __future__ import annotations

from contextlib import suppress

from resources.clients.snapshotter import SnapshotterClient
from resources.errors import PeerClosedEarly
from resources.model import ShardID
from tests.influxd import wait_until


def raw_shard(client: SnapshotterClient, shard: int, since_ns: int | None = None) -> bytes:
    """What a server says of a shard that it has; it says nothing while it writes its cache."""
    answers: list[bytes] = []

    def answered() -> bool:
        with suppress(PeerClosedEarly):
            answers.append(asked_once(client, shard, since_ns))
        return bool(answers)

    wait_until(answered, within_s=20, what=f"shard {shard}")
    return answers[0]


def asked_once(client: SnapshotterClient, shard: int, since_ns: int | None = None) -> bytes:
    """What it answers now.

    Raises:
        WireError: it does not answer.
    """
    received, buffer = bytearray(), bytearray(1 << 16)
    with client.open_shard(ShardID(shard), since_ns=since_ns) as stream:
        while n_bytes := stream.recv_into(buffer):
            received += buffer[:n_bytes]
    return bytes(received)
