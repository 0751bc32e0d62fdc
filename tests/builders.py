"""Parts of metastores and of backups, with everything given a value that a test does not name.

A test names what it is about; what it does not name is small and valid. Whole metastores of any
shape, for properties, are in tests/resources/protocol/metastores.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from msgspec.structs import replace

from resources.clients.source import ShardCopy
from resources.model import (
    ContinuousQueryInfo,
    DatabaseInfo,
    Metastore,
    NodeID,
    NodeInfo,
    RetentionPolicyInfo,
    ShardGroupID,
    ShardGroupInfo,
    ShardID,
    ShardInfo,
    ShardOwner,
    ShardPlace,
    SubscriptionInfo,
)
from resources.protocol.server_vars import CacheStats, ShardStats
from resources.repository.backup_set import Archive, BackupSet, StoredManifest
from resources.repository.formats.details import BackupDetails, FileFacts, ShardDetails, SourceInfo
from resources.repository.formats.manifest import Limits, Manifest, MetaEntry, ShardEntry
from resources.repository.formats.proof import Clocks, Proof, ShardFigures

HOUR_NS = 3_600 * 10**9
DAY_NS = 24 * HOUR_NS
WEEK_NS = 7 * DAY_NS


def node(number: int) -> NodeInfo:
    """A data node."""
    return NodeInfo(NodeID(number), f"data-{number}:8086", f"data-{number}:8088")


def meta_node(number: int = 1) -> NodeInfo:
    return NodeInfo(NodeID(number), f"meta-{number}:8091", f"meta-{number}:8089")


def shard(number: int, *owners: int) -> ShardInfo:
    """A shard; a single server's has no owners."""
    return ShardInfo(ShardID(number), tuple(ShardOwner(NodeID(owner)) for owner in owners))


def group(
    number: int,
    *shards: int | ShardInfo,
    start_ns: int = 0,
    length_ns: int = DAY_NS,
    owners: Collection[int] = (),
    deleted_at_ns: int | None = None,
    truncated_at_ns: int | None = None,
) -> ShardGroupInfo:
    """A shard group of these shards.

    Args:
        shards: numbers of shards, each with these owners; or shards as they are.
    """
    made = tuple(s if isinstance(s, ShardInfo) else shard(s, *owners) for s in shards)
    return ShardGroupInfo(
        ShardGroupID(number), start_ns, start_ns + length_ns, deleted_at_ns, truncated_at_ns, made
    )


def policy(
    name: str = "autogen",
    *groups: ShardGroupInfo,
    keep_ns: int = 0,
    group_ns: int = DAY_NS,
    replica_n: int = 1,
    subscriptions: int = 0,
) -> RetentionPolicyInfo:
    """A retention policy; its points are kept for ever unless `keep_ns` says how long."""
    forwarded = tuple(
        SubscriptionInfo(f"s{i}", "ALL", ("udp://h:1",)) for i in range(subscriptions)
    )
    return RetentionPolicyInfo(name, keep_ns, group_ns, replica_n, groups, forwarded)


def database(
    name: str = "db", *policies: RetentionPolicyInfo, queries: Collection[str] = ()
) -> DatabaseInfo:
    """A database; its first policy is the default one."""
    statements = tuple(
        ContinuousQueryInfo(query, f"CREATE CONTINUOUS QUERY {query} ON {name} BEGIN … END")
        for query in queries
    )
    return DatabaseInfo(name, policies[0].name if policies else "", policies, statements)


def metastore(*databases: DatabaseInfo, nodes: Collection[int] = (), **changed: Any) -> Metastore:
    """What a server knows, or a cluster with these data nodes.

    Args:
        changed: other fields of the metastore.
    """
    made = Metastore(
        term=2 if nodes else 0,
        index=9,
        cluster_id=5,
        databases=databases,
        users=(),
        data_nodes=tuple(map(node, nodes)),
        meta_nodes=(meta_node(),) if nodes else (),
        max_node_id=max(nodes, default=0),
        max_shard_group_id=99,
        max_shard_id=99,
    )
    return replace(made, **changed)


def place(
    number: int = 1,
    *owners: int,
    database: str = "db",
    policy: str = "autogen",
    start_ns: int = 0,
    length_ns: int = DAY_NS,
) -> ShardPlace:
    """A shard, alone in a shard group of the same number."""
    one = shard(number, *owners)
    return ShardPlace(
        database, policy, group(number, one, start_ns=start_ns, length_ns=length_ns), one
    )


def copy(
    node: str = "data-4:8088",
    size_bytes: int | None = 500,
    modified_ns: int | None = 100,
    *,
    at_rest: bool = True,
) -> ShardCopy:
    """What a data node says of its replica of a shard."""
    return ShardCopy(node, size_bytes, modified_ns, at_rest)


def stats(**changed: Any) -> ShardStats:
    """What a server tells of a shard whose cache is empty: two files of 300 bytes."""
    made = ShardStats(2, 300, 9, 0, "db", "autogen", CacheStats(0, 0, 0, 500), 0, 3, 1)
    return replace(made, **changed)


def cache(**changed: Any) -> CacheStats:
    """An empty cache that was written out before."""
    return replace(CacheStats(0, 0, 0, 500), **changed)


def clocks(seconds: int = 1_700_000_000, **changed: Any) -> Clocks:
    """A server's clock and ours, both right, on a machine that started at second 1.6e9."""
    made = Clocks(seconds * 10**9, seconds * 10**9, (seconds - 1_600_000_000) * 10**9, "boot")
    return replace(made, **changed)


def proof(figures: ShardFigures | None = None, at: Clocks | None = None) -> Proof:
    """What held when `stats()` was all that its archive holds."""
    return Proof(at or clocks(), figures or ShardFigures(7, 2, 300, 0, 3, 1, 500))


def file(number: int = 1, size_bytes: int = 100, crc32: int | None = None) -> FileFacts:
    """A TSM file; its CRC is its number unless the test names one."""
    return FileFacts(
        f"{number:09}-000000001.tsm", size_bytes, number if crc32 is None else crc32, 1, 10
    )


def details(*files: FileFacts, **changed: Any) -> ShardDetails:
    """What was found in an archive of these files."""
    made = ShardDetails(
        sha256="a" * 64,
        stored_bytes=9,
        content="b" * 64,
        checked="full",
        files=files,
        series=None,
        points=None,
        min_time_ns=None,
        max_time_ns=None,
        tombstones=0,
        node="h:8088",
        read_at_ns=None,
        modified_ns=None,
        seconds=0.0,
        group_start_ns=0,
        group_end_ns=1,
    )
    return replace(made, **changed)


def stamp(second: int) -> str:
    """The name of the backup of that second."""
    return f"20261122T0951{second:02}Z"


def entry(
    number: int = 1,
    details: ShardDetails | None = None,
    *,
    second: int = 0,
    database: str = "db",
    policy: str = "autogen",
    modified_ns: int = 0,
    size_bytes: int = 2048,
) -> ShardEntry:
    """What a manifest says of a shard's archive."""
    name = f"{stamp(second)}.s{number}.tar.gz"
    return ShardEntry(database, policy, ShardID(number), name, size_bytes, modified_ns, details)


def archive(
    number: int = 1, details: ShardDetails | None = None, *, second: int = 0, **of_entry: Any
) -> Archive:
    """A shard's archive in the backup of that second."""
    return Archive(entry(number, details, second=second, **of_entry), f"{stamp(second)}.manifest")


def backup_details(**changed: Any) -> BackupDetails:
    """How a backup of a single server came about."""
    source = SourceInfo("server", "h:8088", "1.6.7", 5)
    return replace(BackupDetails("0.1.0", "incremental", 0, source, "c" * 64), **changed)


def manifest(
    *entries: ShardEntry,
    second: int = 0,
    details: BackupDetails | None = None,
    limits: Limits | None = None,
) -> Manifest:
    """The manifest of a backup of that second; the original tools write no details."""
    meta = MetaEntry(f"{stamp(second)}.meta", 1)
    return Manifest(meta, entries, limits or Limits(), bool(limits), details)


def stored(
    *entries: ShardEntry, second: int = 0, details: BackupDetails | None = None
) -> StoredManifest:
    """That manifest under its name."""
    return StoredManifest(
        f"{stamp(second)}.manifest", manifest(*entries, second=second, details=details)
    )


def backup_set(
    *archives: Archive,
    missing: Collection[Archive] = (),
    second: int = 0,
    details: BackupDetails | None = None,
) -> BackupSet:
    """What is restored from a directory whose newest backup is of that second."""
    found: Mapping[ShardID, Archive] = {a.entry.shard_id: a for a in archives}
    return BackupSet(stored(second=second, details=details), found, tuple(missing))
