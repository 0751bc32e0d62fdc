"""Applies an import of metadata (the snapshotter's type 6) to a metastore.

Groups and shards get new IDs and no owners, also in a cluster, where that makes them
unreachable. Continuous queries and users are not imported.

Source: influxdb services/meta/data.go, ImportData and importOneDB.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from resources.embedded.meta.edits import CommandRejected
from resources.model import (
    INTERNAL_DATABASE,
    DatabaseInfo,
    Metastore,
    RetentionPolicyInfo,
    ShardGroupID,
    ShardGroupInfo,
    ShardID,
    ShardInfo,
)
from resources.protocol.snapshotter import MetastoreUpdate


class Imported(Struct, frozen=True):
    """The metastore afterwards, and the new id of each shard."""

    metastore: Metastore
    pairs: tuple[tuple[ShardID, ShardID], ...]
    places: tuple[tuple[str, str, ShardID], ...]
    """Database, policy and new ID of every shard to create."""


def imported(store: Metastore, other: Metastore, asked: MetastoreUpdate) -> Imported:
    """Import one database, under its own or a new name, or all but `_internal` without a name.

    Raises:
        CommandRejected: a name exists already or is missing; nothing was imported.
    """
    if asked.database:
        jobs = [(asked.database, asked.new_database or asked.database)]
        policy, new_policy = asked.policy, asked.new_policy or asked.policy
    else:
        jobs = [(db.name, db.name) for db in other.databases if db.name != INTERNAL_DATABASE]
        policy = new_policy = ""
    pairs: list[tuple[ShardID, ShardID]] = []
    places: list[tuple[str, str, ShardID]] = []
    for name, new_name in jobs:
        source = other.database(name)
        if source is None:
            raise CommandRejected(f"imported metadata does not have database named {name}")
        if store.database(new_name) is not None:
            raise CommandRejected("database already exists")
        policies = source.retention_policies
        default = source.default_retention_policy
        if policy:
            chosen = source.retention_policy(policy)
            if chosen is None:
                raise CommandRejected(f"retention policy not found in meta backup: {name}.{policy}")
            policies, default = (replace(chosen, name=new_policy),), new_policy
        fresh: list[RetentionPolicyInfo] = []
        for rp in policies:
            store, renumbered = _renumbered(store, rp, pairs)
            fresh.append(renumbered)
            places += [
                (new_name, rp.name, shard.id)
                for group in renumbered.shard_groups
                for shard in group.shards
            ]
        made = DatabaseInfo(new_name, default, tuple(fresh))
        store = replace(store, databases=(*store.databases, made))
    return Imported(store, tuple(pairs), tuple(places))


def _renumbered(
    store: Metastore, rp: RetentionPolicyInfo, pairs: list[tuple[ShardID, ShardID]]
) -> tuple[Metastore, RetentionPolicyInfo]:
    group_id, shard_id = store.max_shard_group_id, store.max_shard_id
    groups: list[ShardGroupInfo] = []
    for group in rp.shard_groups:
        group_id += 1
        shards: list[ShardInfo] = []
        for shard in group.shards:
            shard_id += 1
            pairs.append((shard.id, ShardID(shard_id)))
            shards.append(ShardInfo(ShardID(shard_id)))
        groups.append(replace(group, id=ShardGroupID(group_id), shards=tuple(shards)))
    grown = replace(store, max_shard_group_id=group_id, max_shard_id=shard_id)
    return grown, replace(rp, shard_groups=tuple(groups))
