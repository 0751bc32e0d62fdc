"""A cluster whose data nodes have a limited network each, in processes of their own.

    python -m tests.bench.limited DIRECTORY NODES SHARDS_EACH SHARD_MB RATE_MB

Prints the meta node's address and a map of the data nodes' addresses to those of proxies, as JSON.
Through a proxy pass at most RATE_MB megabytes a second, all connections and both directions taken
together. The shards are sound TSM files of raw integers; 0 shards make an empty cluster.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec.structs import replace

from resources.embedded.cluster import EmbeddedCluster
from resources.embedded.meta.shard_groups import HOUR_NS
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
from tests.faults.memory import write_tsm
from tests.proxy import Fault, Proxy
from tests.resources.tsm.writing import T0

DATABASE, POLICY = "telegraf", "autogen"
ROOT = Path(__file__).parents[2]
DAY_NS = 24 * HOUR_NS
FIRST_NS = T0 // DAY_NS * DAY_NS
BURST_S = 0.01
"""How much of what a network did not carry while it was idle it may make up for."""


class LimitedProxy(Proxy):
    """Lets a limited number of bytes through in a second, over all connections, both ways."""

    def __init__(self, upstream: str, bytes_per_s: float) -> None:
        super().__init__(upstream)
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0
        self._turn = threading.Lock()

    def _pass(
        self,
        data: bytes,
        passed: int,
        goal: socket.socket,
        origin: socket.socket,
        fault: Fault | None,
    ) -> bool:
        with self._turn:
            began = max(self._free_at, time.monotonic() - BURST_S)
            self._free_at = began + len(data) / self._bytes_per_s
            wait_s = self._free_at - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)  # it is what a slow network does
        return super()._pass(data, passed, goal, origin, fault)


def _with_shards(store: Metastore, each: int) -> Metastore:
    """Every node owns that many shards of one day each."""
    nodes = [node.id for node in store.data_nodes]
    n = each * len(nodes)
    groups = tuple(
        ShardGroupInfo(
            ShardGroupID(i + 1),
            FIRST_NS + i * DAY_NS,
            FIRST_NS + (i + 1) * DAY_NS,
            None,
            None,
            (ShardInfo(ShardID(i + 1), (ShardOwner(nodes[i % len(nodes)]),)),),
        )
        for i in range(n)
    )
    policy = RetentionPolicyInfo(POLICY, 0, DAY_NS, 1, groups)
    databases = (DatabaseInfo(DATABASE, POLICY, (policy,)),)
    return replace(store, databases=databases, max_shard_group_id=n, max_shard_id=n)


def _fill(cluster: EmbeddedCluster, shard_bytes: int) -> None:
    stores = {node.id: node.store for node in cluster.data}
    for place in cluster.group.metastore.places():
        store = stores[place.shard.owners[0].node_id]
        directory = store.directory / "data" / DATABASE / POLICY / str(place.shard_id)
        directory.mkdir(parents=True)
        with (directory / "000000001-000000001.tsm").open("wb") as file:
            write_tsm(file, shard_bytes, place.group.start_time_ns)
        store.create(DATABASE, POLICY, place.shard_id)


@contextmanager
def limited_cluster(
    directory: Path, nodes: int, shards_each: int, shard_mb: float, rate_mb: float
) -> Generator[tuple[str, Mapping[str, str]]]:
    """The meta node's address, and for each data node's address that of its limited network."""
    words = map(str, (directory, nodes, shards_each, shard_mb, rate_mb))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.limited", *words],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        found = json.loads(process.stdout.readline())
        yield found["bind"], found["map"]
    finally:
        process.stdin.close()
        process.wait()


def _serve_proxies() -> None:
    """Be the networks of the nodes whose addresses come in, until stdin ends."""
    asked = json.loads(sys.stdin.readline())
    with ExitStack() as stack:
        proxies = {
            address: stack.enter_context(LimitedProxy(address, asked["bytes_per_s"])).address
            for address in asked["addresses"]
        }
        sys.stdout.write(json.dumps(proxies) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


def _serve_cluster() -> None:
    directory, nodes, each = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    shard_bytes, bytes_per_s = int(float(sys.argv[4]) * 1e6), float(sys.argv[5]) * 1e6
    with EmbeddedCluster(directory, 1, nodes) as cluster:
        if each:
            cluster.group.change(lambda store: _with_shards(store, each))
            _fill(cluster, shard_bytes)
        network = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.limited", "network"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert network.stdin is not None
        assert network.stdout is not None
        addresses = [node.tcp_addr for node in cluster.data]
        network.stdin.write(json.dumps({"addresses": addresses, "bytes_per_s": bytes_per_s}) + "\n")
        network.stdin.flush()
        known = {"bind": cluster.meta[0].http_addr, "map": json.loads(network.stdout.readline())}
        sys.stdout.write(json.dumps(known) + "\n")
        sys.stdout.flush()
        sys.stdin.read()
        network.stdin.close()
        network.wait()


if __name__ == "__main__":
    _serve_proxies() if sys.argv[1] == "network" else _serve_cluster()
