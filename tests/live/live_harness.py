"""A source cluster, a target and a configured deployment of Dagster over both."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import yaml

from resources.embedded.cluster import EmbeddedCluster
from resources.model import ShardID

NAME = "plant"
SHARDS, BACKUP, SET = f"{NAME}/shards", f"{NAME}/shard_backup", f"{NAME}/backup_set"
LOCK = ".shardkeeper.lock"
WEEK_NS = 7 * 86_400 * 10**9
FIRST_NS = 1_600_000_000 * 10**9
"""Shard groups of a policy without end are weeks, so points 7 days apart are in two shards."""

Found = dict[tuple[str, tuple[tuple[str, str], ...]], list[list[Any]]]
"""Rows by measurement and tags."""


def configure(
    directory: Path, source: EmbeddedCluster, target: EmbeddedCluster, **cluster: Any
) -> Path:
    """Write shardkeeper.yaml: `plant`, watched by nothing yet, and `spare` to restore into."""
    backups = directory / "backups"
    backups.mkdir()
    document = {
        "repositories": {NAME: {"path": str(backups)}},
        "clusters": {
            NAME: {
                "bind": source.meta[0].http_addr,
                "repository": NAME,
                "target": "spare",
                "running": [],
                "watch_every": "5s",
                **cluster,
            },
            "spare": {"bind": target.meta[0].http_addr},
        },
    }
    path = directory / "shardkeeper.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def write_weeks(
    cluster: EmbeddedCluster, database: str, weeks: Iterable[int], value: float
) -> None:
    """Write five points into one shard for each of these weeks."""
    lines = [
        f"cpu,host=h{host} value={value} {FIRST_NS + week * WEEK_NS + host}"
        for week in weeks
        for host in range(5)
    ]
    cluster.write(database, "\n".join(lines))


def shard_numbers(cluster: EmbeddedCluster, database: str) -> list[ShardID]:
    """The shards of a database, oldest points first."""
    places = [p for p in cluster.group.metastore.places() if p.database == database]
    return [p.shard_id for p in sorted(places, key=lambda p: p.group.start_time_ns)]


def points(cluster: EmbeddedCluster, database: str) -> Found:
    """Every point of a database, as a reader of it sees them."""
    reply = cluster.query("SELECT * FROM /.*/ GROUP BY *", database=database)
    [result] = cast("list[Mapping[str, Any]]", reply["results"])
    return {
        (series["name"], tuple(sorted(series.get("tags", {}).items()))): series["values"]
        for series in result.get("series", [])
    }


@contextmanager
def held(cluster: EmbeddedCluster) -> Iterator[threading.Event]:
    """Meanwhile no node sends a shard; the event is set once one was asked to."""
    reached, go = threading.Event(), threading.Event()

    def wait(_shard_id: ShardID) -> None:
        reached.set()
        go.wait()

    for node in cluster.data:
        node.snapshotter.faults.before_shard = wait
    try:
        yield reached
    finally:
        for node in cluster.data:
            node.snapshotter.faults.before_shard = None
        go.set()


@contextmanager
def unreadable(cluster: EmbeddedCluster, shard_id: ShardID) -> Iterator[None]:
    """Meanwhile every node's copy of a shard is damaged on its disk."""
    for node in cluster.data:
        if shard_id in node.store.shards():
            node.store.flush(shard_id)
    whole = {path: path.read_bytes() for path in cluster.directory.rglob(f"*/{shard_id}/*.tsm")}
    assert whole
    try:
        for path, content in whole.items():
            path.write_bytes(content[:12] + bytes([content[12] ^ 0xFF]) + content[13:])
        yield
    finally:
        for path, content in whole.items():
            path.write_bytes(content)
