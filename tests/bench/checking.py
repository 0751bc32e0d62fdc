"""Two ways to check blocks: in scratch space while storing, or by reading back what is stored."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import click

from resources.clients.snapshotter import SnapshotterClient
from resources.model import ShardLocation
from resources.repository.archives.archive import ArchiveWriter, inspect_archive, scratch_in
from resources.repository.storage.store import DirectoryStore
from tests.influxd import Influxd


def checking(server: Influxd, name: str, n: int, root: Path) -> None:
    """What the two ways to check blocks cost: scratch while storing, or reading back."""
    client = SnapshotterClient(server.bind_addr)
    path = client.shard_paths(name)[0]
    buffer, tar = memoryview(bytearray(256 << 10)), bytearray()
    with client.open_shard(path.shard_id) as stream:
        while got := stream.recv_into(buffer):
            tar += buffer[:got]
    place = ShardLocation(path.database, path.policy, path.shard_id)
    found: dict[str, list[float]] = {"structure": [], "scratch": [], "read back": []}
    store = DirectoryStore(root)
    for i in range(n):
        for way in found:
            began = time.process_time()
            with scratch_in(str(root)) as scratch:
                with store.create(f"{name}-{i}") as sink:
                    archive = ArchiveWriter(
                        sink,
                        inner_name="shard.tar",
                        place=place,
                        level="default",
                        checked="full" if way == "scratch" else "structure",
                        scratch=scratch,
                    )
                    for at in range(0, len(tar), len(buffer)):
                        archive.feed(memoryview(tar)[at : at + len(buffer)])
                    archive.finish()
                if way == "read back":
                    with store.open(f"{name}-{i}") as source:
                        inspect_archive(
                            source,
                            max_bytes=len(tar),
                            place=place,
                            checked="full",
                            scratch=scratch,
                        )
            found[way].append(time.process_time() - began)
            store.delete(f"{name}-{i}")
    size = len(tar) / 1e9
    shown = "  ".join(f"{way} {statistics.median(s) / size:.2f}" for way, s in found.items())
    click.echo(f"{name:<6} CPU seconds per GB: {shown}  (a shard of {len(tar) / 1e6:.1f} MB)")
