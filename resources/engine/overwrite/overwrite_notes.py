"""Describe what changes for a cluster's users when its metastore is replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from resources.errors import counted, named_few, shown
from resources.model import (
    INTERNAL_DATABASE,
    DatabaseInfo,
    Metastore,
    RetentionPolicyInfo,
    ShardID,
    ShardPlace,
    UserInfo,
)

MAX_LISTED = 10


def note_changes(
    before: Metastore,
    after: Metastore,
    *,
    forgotten: Sequence[ShardPlace],
    without_files: Sequence[ShardPlace],
) -> list[str]:
    """One line for each database, policy and user that differs, and lines on shards."""
    old, new = _databases(before), _databases(after)
    notes = [
        *(f"database {shown(name)} is forgotten" for name in old.keys() - new.keys()),
        *(f"database {shown(name)} comes back" for name in new.keys() - old.keys()),
    ]
    for name in sorted(old.keys() & new.keys()):
        notes += _policies(old[name], new[name])
    notes.sort()
    if forgotten:
        notes.append(
            f"{of_shards(place.shard_id for place in forgotten)} are forgotten: no query finds "
            "them any more, and their files stay on the data nodes"
        )
    if without_files:
        notes.append(
            f"{of_shards(place.shard_id for place in without_files)} are on no data node: restore "
            "-shard N -newshard N brings back the points of each"
        )
    return notes + _users(before.users, after.users)


def of_shards(ids: Iterable[ShardID] | Mapping[ShardID, object]) -> str:
    """`shards 1, 2, 3 …`, as many as fit on a line."""
    return f"shards {named_few(sorted(ids), MAX_LISTED)}"


def _databases(metastore: Metastore) -> dict[str, DatabaseInfo]:
    return {db.name: db for db in metastore.databases if db.name != INTERNAL_DATABASE}


def _policies(old: DatabaseInfo, new: DatabaseInfo) -> list[str]:
    there = {rp.name: rp for rp in old.retention_policies}
    then = {rp.name: rp for rp in new.retention_policies}
    notes: list[str] = []
    for name in sorted(there.keys() | then.keys()):
        place = f"{shown(old.name)}.{shown(name)}"
        if name not in then:
            notes.append(f"policy {place} is forgotten")
        elif name not in there:
            notes.append(f"policy {place} comes back")
        elif _settings(there[name]) != _settings(then[name]):
            notes.append(f"policy {place} becomes that of the backup: {_described(then[name])}")
    if old.continuous_queries != new.continuous_queries:
        notes.append(
            f"continuous queries of {shown(old.name)} become those of the backup: "
            + (", ".join(shown(query.name) for query in new.continuous_queries) or "none")
        )
    return notes


def _settings(rp: RetentionPolicyInfo) -> tuple[object, ...]:
    return (
        rp.duration_ns,
        rp.shard_group_duration_ns,
        rp.replica_n,
        rp.subscriptions,
    )


def _described(rp: RetentionPolicyInfo) -> str:
    keeps = (
        f"keeps points for {rp.duration_ns // 10**9} s" if rp.duration_ns else "keeps all points"
    )
    return f"{keeps}, replication {rp.replica_n}, {counted(len(rp.subscriptions), 'subscription')}"


def _users(old: Sequence[UserInfo], new: Sequence[UserInfo]) -> list[str]:
    there, then = {user.name: user for user in old}, {user.name: user for user in new}
    notes: list[str] = []
    for name in sorted(there.keys() | then.keys()):
        if name not in then:
            notes.append(f"user {shown(name)} is forgotten")
        elif name not in there:
            notes.append(f"user {shown(name)} comes back, with the password and grants it had")
        elif there[name] != then[name]:
            notes.append(f"user {shown(name)} gets the password and grants of the backup")
    return notes
