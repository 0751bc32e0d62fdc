"""A cluster of very many small shards, in a process of its own.

    python -m tests.live.large DIRECTORY SHARDS [DATABASES]

Its metastore is made at once, since a group made for each write is what takes long. Told
`write N VALUE` on stdin it writes a point into each of N shards, and says `done`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from resources.embedded.cluster import EmbeddedCluster
from resources.embedded.meta.shard_groups import HOUR_NS
from resources.embedded.shards.line_protocol import parse_lines
from resources.model import (
    DatabaseInfo,
    Metastore,
    RetentionPolicyInfo,
    ShardGroupID,
    ShardGroupInfo,
    ShardID,
    ShardInfo,
    ShardOwner,
)

DATABASE, POLICY = "telegraf", "autogen"
"""The first database; others have a number behind."""
ROOT = Path(__file__).parents[2]
FIRST_NS = 1_600_000_000 * 10**9 // HOUR_NS * HOUR_NS


def _with_shards(store: Metastore, count: int, databases: int) -> Metastore:
    nodes = [node.id for node in store.data_nodes]
    found: list[DatabaseInfo] = []
    for number in range(databases):
        groups = tuple(
            ShardGroupInfo(
                ShardGroupID(i + 1),
                FIRST_NS + i * HOUR_NS,
                FIRST_NS + (i + 1) * HOUR_NS,
                None,
                None,
                (ShardInfo(ShardID(i + 1), (ShardOwner(nodes[i % len(nodes)]),)),),
            )
            for i in range(count * number // databases, count * (number + 1) // databases)
        )
        policy = RetentionPolicyInfo(POLICY, 0, HOUR_NS, 1, groups)
        name = f"{DATABASE}{number}" if number else DATABASE
        found.append(DatabaseInfo(name, POLICY, (policy,)))
    return replace(store, databases=tuple(found), max_shard_group_id=count, max_shard_id=count)


def _write(cluster: EmbeddedCluster, count: int, value: float) -> None:
    stores = {node.id: node.store for node in cluster.data}
    for place in list(cluster.group.metastore.places())[:count]:
        line = f"cpu,host=a v={value} {place.group.start_time_ns}".encode()
        store = stores[place.shard.owners[0].node_id]
        store.create(place.database, POLICY, place.shard_id)
        store.write(place.shard_id, parse_lines(line, now_ns=0).points)


@contextmanager
def many_shards(
    directory: Path, shards: int, databases: int = 1
) -> Iterator[tuple[str, Callable[[int, float], None]]]:
    """The address of a cluster's meta node, and a way to write a point to its first n shards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.live.large", str(directory), str(shards), str(databases)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    events, heard = process.stdin, process.stdout

    def write(count: int, value: float) -> None:
        events.write(f"write {count} {value}\n")
        events.flush()
        assert heard.readline() == "done\n"

    try:
        yield heard.readline().strip(), write
    finally:
        events.close()
        process.wait()


def main() -> None:
    """Serve until stdin ends."""
    directory, count = Path(sys.argv[1]), int(sys.argv[2])
    databases = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    with EmbeddedCluster(directory, 1, 3) as cluster:
        cluster.group.change(lambda store: _with_shards(store, count, databases))
        _write(cluster, count, 1.0)
        sys.stdout.write(f"{cluster.meta[0].http_addr}\n")
        sys.stdout.flush()
        for line in sys.stdin:
            _, asked, value = line.split()
            _write(cluster, int(asked), float(value))
            sys.stdout.write("done\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
