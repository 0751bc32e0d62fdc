"""What a cluster is filled with, a restore into it, and what it holds afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from resources.clients.coordinator import CoordinatorClient
from resources.clients.meta import MetaClient
from resources.embedded.cluster import EmbeddedCluster
from resources.model import Metastore
from resources.protocol.commands import Command, SetData
from tests.influxd import wait_until
from tests.wire.commands import Done, shardkeeper

WEEK_S = 604_800
START_S = 1_600_000_000
HOSTS, WEEKS = 20, 3


def fill(cluster: EmbeddedCluster, database: str, replication: int = 2) -> None:
    cluster.query(f"CREATE DATABASE {database} WITH REPLICATION {replication}")
    lines = [
        f"cpu,host=h{host} usage={host}.5,n={host}i {START_S + week * WEEK_S + host}"
        for host in range(HOSTS)
        for week in range(WEEKS)
    ]
    cluster.write(database, "\n".join(lines), precision="s")


def restore(cluster: EmbeddedCluster, directory: Path, *flags: object) -> Done:
    # A meta node that follows: what it does not do itself it sends on to the leader.
    address = cluster.meta[-1].http_addr
    return shardkeeper("-bind", address, "-timeout", "5s", "restore", *flags, directory)


def points(cluster: EmbeddedCluster, database: str) -> list[Any]:
    """Every point of a database, as each node in turn tells them."""
    output = [
        cluster.query("SELECT * FROM cpu", database=database, at=at)
        for at, node in enumerate(cluster.data)
        if node.running
    ]
    return [answer["results"] for answer in output]


def metastore(cluster: EmbeddedCluster) -> Metastore:
    _, found = MetaClient(cluster.meta[0].http_addr).metastore()
    return found


def timeless(store: Metastore) -> Metastore:
    """What no number and no time of a change can show."""
    return replace(store, term=0, index=0, max_shard_id=0, max_shard_group_id=0)


def on_disk(cluster: EmbeddedCluster) -> Mapping[str, list[int]]:
    return {
        node.tcp_addr: sorted(CoordinatorClient(node.tcp_addr).list_shards())
        for node in cluster.data
        if node.running
    }


def right_before_it_is_set(
    cluster: EmbeddedCluster, do: Callable[[], object], *, seen: bool = True
) -> None:
    """Do something between the last look at the metastore and the first setting of it.

    Args:
        seen: whether to wait until a watching client has it.
    """
    done = list[bool]()

    def before(command: Command) -> None:
        if not isinstance(command, SetData) or done:
            return
        done.append(True)
        do()
        if seen:
            index = cluster.group.metastore.index
            wait_until(
                lambda: any(node.given_index >= index for node in cluster.meta),
                within_s=30,
                what="a look at what was changed",
            )

    cluster.before_command(before)


def nobody_hears(cluster: EmbeddedCluster) -> None:
    """A client that waits for a newer metastore gets no answer."""
    for node in cluster.meta:
        node.deaf = True


def journals(directory: Path) -> list[str]:
    return [path.name for path in directory.glob(".shardkeeper.restore-*")]


@contextmanager
def busy(cluster: EmbeddedCluster) -> Iterator[list[str]]:
    """Another client creates databases for the block; gives their names."""
    created: list[str] = []
    done = threading.Event()

    def create() -> None:
        while not done.wait(0.02):
            cluster.query(f"CREATE DATABASE racer{len(created)}")
            created.append(f"racer{len(created)}")

    somebody = threading.Thread(target=create)
    somebody.start()
    try:
        yield created
    finally:
        done.set()
        somebody.join()
