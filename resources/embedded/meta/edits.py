"""Finds and replaces parts of a metastore; errors have the words of the original."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from resources.errors import ShardkeeperError
from resources.model import (
    DatabaseInfo,
    Metastore,
    RetentionPolicyInfo,
    ShardGroupInfo,
    ShardInfo,
    UserInfo,
)


class CommandRejected(ShardkeeperError):
    """The state machine refused; `what` has its words, and only the index changed."""


def found_database(store: Metastore, name: str) -> DatabaseInfo:
    db = store.database(name)
    if db is None:
        raise CommandRejected(f"database not found: {name}")
    return db


def found_policy(
    store: Metastore, database: str, name: str
) -> tuple[DatabaseInfo, RetentionPolicyInfo]:
    db = found_database(store, database)
    rp = db.retention_policy(name)
    if rp is None:
        raise CommandRejected(f"retention policy not found: {name}")
    return db, rp


def found_user(store: Metastore, name: str) -> UserInfo:
    for user in store.users:
        if user.name == name:
            return user
    raise CommandRejected("user not found")


def with_user(store: Metastore, changed: UserInfo) -> Metastore:
    return replace(
        store,
        users=tuple(changed if user.name == changed.name else user for user in store.users),
    )


def with_database(store: Metastore, changed: DatabaseInfo) -> Metastore:
    return replace(
        store,
        databases=tuple(changed if db.name == changed.name else db for db in store.databases),
    )


def exchanged(db: DatabaseInfo, old: RetentionPolicyInfo, new: RetentionPolicyInfo) -> DatabaseInfo:
    return replace(
        db, retention_policies=tuple(new if rp is old else rp for rp in db.retention_policies)
    )


def with_groups(
    store: Metastore,
    change: Callable[[tuple[ShardGroupInfo, ...]], Iterable[ShardGroupInfo]],
) -> Metastore:
    return replace(
        store,
        databases=tuple(
            replace(
                db,
                retention_policies=tuple(
                    replace(rp, shard_groups=tuple(change(rp.shard_groups)))
                    for rp in db.retention_policies
                ),
            )
            for db in store.databases
        ),
    )


def with_shard(
    store: Metastore, shard_id: int, now_ns: int, change: Callable[[ShardInfo], ShardInfo | None]
) -> Metastore:
    """Change a shard; `None` removes it. Unknown IDs change nothing, as in the original."""

    def in_group(group: ShardGroupInfo) -> ShardGroupInfo:
        if all(shard.id != shard_id for shard in group.shards):
            return group
        changed = (change(shard) if shard.id == shard_id else shard for shard in group.shards)
        kept = tuple(shard for shard in changed if shard is not None)
        return replace(group, shards=kept, deleted_at_ns=group.deleted_at_ns if kept else now_ns)

    return with_groups(store, lambda groups: tuple(in_group(group) for group in groups))
