"""Applies a command to a metastore value; returns the new value or raises a refusal.

Pure functions: no clock, no disk, no sockets. Errors have the words of the original, since clients
show them and some compare them.

Source: influxdb-cluster services/meta/store_fsm.go, data.go and errors.go.
"""

from __future__ import annotations

from functools import singledispatch

from msgspec.structs import replace

from resources.embedded.meta.edits import (
    CommandRejected,
    exchanged,
    found_database,
    found_policy,
    found_user,
    with_database,
    with_groups,
    with_shard,
    with_user,
)
from resources.embedded.meta.shard_groups import (
    DAY_NS,
    HOUR_NS,
    covering_group,
    dealt_shards,
    normal_group_duration_ns,
    with_group,
)
from resources.model import (
    ContinuousQueryInfo,
    DatabaseInfo,
    Metastore,
    RetentionPolicyInfo,
    ShardGroupInfo,
    ShardInfo,
    ShardOwner,
    UserInfo,
    UserPrivilege,
)
from resources.protocol import commands
from resources.protocol.meta import decode_metastore

AUTOGEN = "autogen"
MAX_AUTOGEN_REPLICA_N = 3
MAX_NAME_BYTES = 255
PRUNED_AFTER_NS = 14 * DAY_NS


def applied(store: Metastore, command: commands.Command, now_ns: int) -> Metastore:
    """The metastore after `command`; the caller sets term and index.

    A store without nodes is a single server's: one shard per group, without owners.

    Raises:
        CommandRejected: the command does not apply; with the original's words.
    """
    return _applied(command, store, now_ns)


@singledispatch
def _applied(command: commands.Command, store: Metastore, now_ns: int) -> Metastore:
    raise CommandRejected(f"no handler for {type(command).__name__}")


# --- databases and policies ---------------------------------------------------------------


@_applied.register
def _create_database(command: commands.CreateDatabase, store: Metastore, _: int) -> Metastore:
    if not command.name:
        raise CommandRejected("database name required")
    if len(command.name.encode()) > MAX_NAME_BYTES:
        raise CommandRejected("name too long")
    if store.database(command.name) is None:
        created = DatabaseInfo(command.name, "")
        store = replace(store, databases=(*store.databases, created))
    if command.policy is None:
        replica_n = min(max(len(store.data_nodes), 1), MAX_AUTOGEN_REPLICA_N)
        return _with_policy(
            store, command.name, commands.RetentionPolicySpec(AUTOGEN, 0, 0, replica_n), True
        )
    try:
        return _with_policy(store, command.name, command.policy, True)
    except CommandRejected as error:
        if error.what == "retention policy already exists":
            raise CommandRejected("retention policy conflicts with an existing policy") from None
        raise


@_applied.register
def _drop_database(command: commands.DropDatabase, store: Metastore, _: int) -> Metastore:
    if store.database(command.name) is None:
        return store
    return replace(
        store,
        databases=tuple(db for db in store.databases if db.name != command.name),
        users=tuple(
            replace(
                user, privileges=tuple(p for p in user.privileges if p.database != command.name)
            )
            for user in store.users
        ),
    )


@_applied.register
def _create_policy(command: commands.CreateRetentionPolicy, store: Metastore, _: int) -> Metastore:
    return _with_policy(store, command.database, command.policy, command.default)


def _with_policy(
    store: Metastore, database: str, spec: commands.RetentionPolicySpec, default: bool
) -> Metastore:
    if not spec.name:
        raise CommandRejected("retention policy name required")
    if len(spec.name.encode()) > MAX_NAME_BYTES:
        raise CommandRejected("name too long")
    if spec.replica_n < 1:
        raise CommandRejected("replication factor must be greater than 0")
    group_duration_ns = normal_group_duration_ns(spec.shard_group_duration_ns, spec.duration_ns)
    if 0 < spec.duration_ns < group_duration_ns:
        raise _incompatible()
    db = found_database(store, database)
    created = RetentionPolicyInfo(spec.name, spec.duration_ns, group_duration_ns, spec.replica_n)
    present = db.retention_policy(spec.name)
    if present is not None:
        if (present.duration_ns, present.shard_group_duration_ns, present.replica_n) != (
            created.duration_ns,
            created.shard_group_duration_ns,
            created.replica_n,
        ):
            raise CommandRejected("retention policy already exists")
        if default and db.default_retention_policy != spec.name:
            raise CommandRejected("retention policy conflicts with an existing policy")
        return store
    return with_database(
        store,
        replace(
            db,
            default_retention_policy=spec.name if default else db.default_retention_policy,
            retention_policies=(*db.retention_policies, created),
        ),
    )


@_applied.register
def _drop_policy(command: commands.DropRetentionPolicy, store: Metastore, _: int) -> Metastore:
    db = store.database(command.database)
    if db is None:
        return store
    kept = tuple(rp for rp in db.retention_policies if rp.name != command.name)
    return with_database(store, replace(db, retention_policies=kept))


@_applied.register
def _update_policy(command: commands.UpdateRetentionPolicy, store: Metastore, _: int) -> Metastore:
    db, rp = found_policy(store, command.database, command.name)
    new_name = command.name if command.new_policy is None else command.new_policy
    if new_name != command.name and db.retention_policy(new_name) is not None:
        raise CommandRejected("retention policy name already exists")
    duration_ns = rp.duration_ns if command.duration_ns is None else command.duration_ns
    if command.duration_ns is not None and 0 != duration_ns < HOUR_NS:
        raise CommandRejected("retention policy duration must be at least 1h0m0s")
    asked_ns = command.shard_group_duration_ns
    if (command.duration_ns is not None or asked_ns is not None) and 0 < duration_ns < (
        rp.shard_group_duration_ns if asked_ns is None else asked_ns
    ):
        raise _incompatible()
    changed = replace(
        rp,
        name=new_name,
        duration_ns=duration_ns,
        replica_n=rp.replica_n if command.replica_n is None else command.replica_n,
        shard_group_duration_ns=rp.shard_group_duration_ns
        if asked_ns is None
        else normal_group_duration_ns(asked_ns, duration_ns),
    )
    # A renamed default policy is not the default any more, unless the command makes it so.
    default = new_name if command.default else db.default_retention_policy
    return with_database(
        store, replace(exchanged(db, rp, changed), default_retention_policy=default)
    )


# --- shard groups and shards --------------------------------------------------------------


@_applied.register
def _create_group(command: commands.CreateShardGroup, store: Metastore, _: int) -> Metastore:
    if store.meta_nodes and not store.data_nodes:
        return store
    db, rp = found_policy(store, command.database, command.policy)
    if covering_group(rp, command.timestamp_ns) is not None:
        return store
    nodes = [node.id for node in store.data_nodes]
    turn = store.index % len(nodes) if nodes else 0
    shards = dealt_shards(store.max_shard_id + 1, rp.replica_n, nodes, turn)
    group_id = store.max_shard_group_id + 1
    groups = with_group(rp, group_id, command.timestamp_ns, shards)
    store = with_database(store, exchanged(db, rp, replace(rp, shard_groups=groups)))
    return replace(
        store, max_shard_group_id=group_id, max_shard_id=store.max_shard_id + len(shards)
    )


@_applied.register
def _delete_group(command: commands.DeleteShardGroup, store: Metastore, now_ns: int) -> Metastore:
    db, rp = found_policy(store, command.database, command.policy)
    if all(group.id != command.group_id for group in rp.shard_groups):
        raise CommandRejected("shard group not found")
    groups = tuple(
        replace(group, deleted_at_ns=now_ns) if group.id == command.group_id else group
        for group in rp.shard_groups
    )
    return with_database(store, exchanged(db, rp, replace(rp, shard_groups=groups)))


@_applied.register
def _drop_shard(command: commands.DropShard, store: Metastore, now_ns: int) -> Metastore:
    return with_shard(store, command.shard_id, now_ns, lambda _: None)


@_applied.register
def _copy_owner(command: commands.CopyShardOwner, store: Metastore, now_ns: int) -> Metastore:
    def change(shard: ShardInfo) -> ShardInfo:
        nodes = [owner.node_id for owner in shard.owners]
        if command.node_id in nodes:
            return shard
        greater = (at for at, node in enumerate(nodes) if node > command.node_id)
        nodes.insert(next(greater, len(nodes)), command.node_id)
        return replace(shard, owners=tuple(ShardOwner(node) for node in nodes))

    return with_shard(store, command.shard_id, now_ns, change)


@_applied.register
def _remove_owner(command: commands.RemoveShardOwner, store: Metastore, now_ns: int) -> Metastore:
    def change(shard: ShardInfo) -> ShardInfo | None:
        kept = tuple(owner for owner in shard.owners if owner.node_id != command.node_id)
        return replace(shard, owners=kept) if kept else None

    return with_shard(store, command.shard_id, now_ns, change)


@_applied.register
def _truncate(command: commands.TruncateShardGroups, store: Metastore, _: int) -> Metastore:
    at_ns = command.timestamp_ns

    def change(group: ShardGroupInfo) -> ShardGroupInfo:
        ended = group.truncated_at_ns is not None and group.truncated_at_ns < at_ns
        if at_ns >= group.end_time_ns or group.deleted_at_ns is not None or ended:
            return group
        return replace(group, truncated_at_ns=max(at_ns, group.start_time_ns))

    return with_groups(store, lambda groups: tuple(change(group) for group in groups))


@_applied.register
def _prune(_: commands.PruneShardGroups, store: Metastore, now_ns: int) -> Metastore:
    def young(group: ShardGroupInfo) -> bool:
        return group.deleted_at_ns is None or group.deleted_at_ns >= now_ns - PRUNED_AFTER_NS

    return with_groups(store, lambda groups: tuple(group for group in groups if young(group)))


def without_owners(store: Metastore, shard_id: int) -> Metastore:
    """The metastore with a shard without owners; no command can produce it."""
    return with_shard(store, shard_id, 0, lambda shard: replace(shard, owners=()))


# --- continuous queries and users ---------------------------------------------------------


@_applied.register
def _create_cq(command: commands.CreateContinuousQuery, store: Metastore, _: int) -> Metastore:
    db = found_database(store, command.database)
    for present in db.continuous_queries:
        if present.name == command.name:
            if present.query.lower() == command.query.lower():
                return store
            raise CommandRejected("continuous query already exists")
    created = ContinuousQueryInfo(command.name, command.query)
    return with_database(store, replace(db, continuous_queries=(*db.continuous_queries, created)))


@_applied.register
def _drop_cq(command: commands.DropContinuousQuery, store: Metastore, _: int) -> Metastore:
    db = store.database(command.database)
    if db is None:
        return store
    kept = tuple(cq for cq in db.continuous_queries if cq.name != command.name)
    return with_database(store, replace(db, continuous_queries=kept))


@_applied.register
def _create_user(command: commands.CreateUser, store: Metastore, _: int) -> Metastore:
    if not command.name:
        raise CommandRejected("username required")
    if any(user.name == command.name for user in store.users):
        raise CommandRejected("user already exists")
    created = UserInfo(command.name, command.hash, command.admin)
    return replace(store, users=(*store.users, created))


@_applied.register
def _drop_user(command: commands.DropUser, store: Metastore, _: int) -> Metastore:
    found_user(store, command.name)
    return replace(store, users=tuple(user for user in store.users if user.name != command.name))


@_applied.register
def _update_user(command: commands.UpdateUser, store: Metastore, _: int) -> Metastore:
    return with_user(store, replace(found_user(store, command.name), hash=command.hash))


@_applied.register
def _set_privilege(command: commands.SetPrivilege, store: Metastore, _: int) -> Metastore:
    user = found_user(store, command.user)
    found_database(store, command.database)
    kept = [grant for grant in user.privileges if grant.database != command.database]
    kept.append(UserPrivilege(command.database, command.privilege))
    return with_user(store, replace(user, privileges=tuple(kept)))


@_applied.register
def _set_admin(command: commands.SetAdminPrivilege, store: Metastore, _: int) -> Metastore:
    return with_user(store, replace(found_user(store, command.user), admin=command.admin))


# --- everything at once -------------------------------------------------------------------


@_applied.register
def _set_data(command: commands.SetData, _store: Metastore, _now: int) -> Metastore:
    return decode_metastore(command.meta)


def _incompatible() -> CommandRejected:
    return CommandRejected("retention policy duration must be greater than the shard duration")
