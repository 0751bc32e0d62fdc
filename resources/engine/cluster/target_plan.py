"""Decide what a restore does to a cluster's metastore; nothing is touched.

The shards come without owners, so no client reads or writes a shard that is still being filled.
The plan distributes their owners over the nodes of this cluster; the shards get them when every
copy is there. Everything that the cluster had stays as it is, byte by byte: new parts are appended,
as protobuf allows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from resources.engine.restore.plan import NOT_EMPTY, DatabaseRestore, RestorePlan, ShardRestore
from resources.errors import DatabaseExists, PlanError, TargetUnsuitable, shown
from resources.model import Metastore, NodeInfo, ShardGroupID, ShardID
from resources.protocol import meta_pb2 as pb
from resources.protocol.meta import decode_metastore, parse_strictly, trimmed
from resources.protocol.storable import check_storable
from resources.values import repr_without

GAP = 100
"""Numbers left out: a command that is lost in between had taken the next few."""
HIGHEST_ID = 2**48
"""Beyond it no number is kept or given: the cluster must be able to go on counting."""


class NewShard(Struct, frozen=True):
    """A shard to be: where it will be, and what comes into it."""

    id: ShardID
    database: str
    policy: str
    owners: tuple[NodeInfo, ...]
    restore: ShardRestore | None
    """None: it was empty at the source and only keeps its place in its group."""


class ClusterChange(Struct, frozen=True):
    """A metastore to be set, and the shards that it makes.

    Attributes:
        before: the metastore that this was planned against.
        meta: the serialized `Data` to be set.
        databases: names of those that are new.
        shards: in the order of the metastore, groups without an archive left out.
        ids: which shard becomes which.
        kept_ids: whether all have the numbers that they had.
        by_command: whether the cluster has made them already, with owners; `meta` is empty then.
    """

    before: Metastore
    meta: bytes
    databases: tuple[str, ...]
    shards: tuple[NewShard, ...]
    ids: Mapping[ShardID, ShardID]
    kept_ids: bool
    by_command: bool = False

    __repr__ = repr_without("meta")

    @property
    def shard_ids(self) -> frozenset[ShardID]:
        return frozenset(shard.id for shard in self.shards)


def draft_databases(plan: RestorePlan, replica_n: int | None = None) -> list[pb.DatabaseInfo]:
    """The databases of a restore, with the numbers that they had at the source.

    Whatever does not depend on the cluster is done here: there is to be little time between
    a look at its metastore and the change of it.

    Args:
        replica_n: `-newrf`; None keeps the source's.

    Raises:
        BadReply: the backup's metastore is none.
    """
    return [_database(plan, database, replica_n) for database in plan.databases]


def plan_cluster_change(
    plan: RestorePlan,
    draft: Sequence[pb.DatabaseInfo],
    raw: bytes,
    on_disk: Collection[ShardID],
) -> ClusterChange:
    """Plan the change of a cluster's metastore.

    Args:
        plan: what to restore.
        draft: its databases, as `draft_databases` made them.
        raw: the cluster's metastore, from its leader.
        on_disk: the shards that any node has, known to the metastore or not.

    Raises:
        TargetNotEmpty: a database of a new name is there.
        PlanError: no data nodes, too many numbers, or the result would harm the cluster.
        BadReply: `raw` is no metastore.
    """
    before = decode_metastore(raw)
    nodes = sorted(before.data_nodes, key=lambda node: node.id)
    if not nodes:
        raise TargetUnsuitable(
            "the cluster has no data nodes", hint="influxd-ctl add-data adds one"
        )
    for database in plan.databases:
        if before.database(database.name) is not None:
            raise DatabaseExists(NOT_EMPTY, hint=f"the cluster has {shown(database.name)} already")
    messages = list(pb.Data(Databases=draft).Databases)  # copies, to be numbered
    groups = [g for db in messages for rp in db.RetentionPolicies for g in rp.ShardGroups]
    ids, kept = _renumber(groups, before, on_disk)
    after = pb.Data(
        Databases=messages,
        MaxShardGroupID=max([before.max_shard_group_id, *(group.ID for group in groups)]),
        MaxShardID=max([before.max_shard_id, *ids.values()]),
    )
    # Repeated fields of concatenated messages add up, and of single ones the last counts.
    meta = raw + after.SerializePartialToString()
    _check(raw, meta, {db.Name for db in messages})
    return ClusterChange(
        before,
        meta,
        tuple(db.Name for db in messages),
        tuple(_deal_out(plan, messages, ids, nodes)),
        ids,
        kept,
    )


def _database(
    plan: RestorePlan, database: DatabaseRestore, replica_n: int | None
) -> pb.DatabaseInfo:
    payload = trimmed(
        plan.meta,
        database=database.source.name,
        policies=[rp.name for rp in database.policies],
        shards=[shard.place.shard_id for shard in database.shards],
        durations=database.durations,
    )
    found = parse_strictly(pb.Data, payload, "metastore").Databases[0]
    found.Name = database.name
    for rp in found.RetentionPolicies:
        rp.ReplicaN = replica_n or max(1, rp.ReplicaN)
        # Servers look groups up by where they end.
        rp.ShardGroups.sort(key=lambda group: (group.TruncatedAt or group.EndTime, group.StartTime))
        if database.new_policy:
            rp.Name = found.DefaultRetentionPolicy = database.new_policy
    return found


def _renumber(
    groups: Sequence[pb.ShardGroupInfo], before: Metastore, on_disk: Collection[ShardID]
) -> tuple[dict[ShardID, ShardID], bool]:
    """Number groups and shards, in place; returns which shard became which."""
    group_ids = [group.ID for group in groups]
    shards = [shard for group in groups for shard in group.Shards]
    shard_ids = [ShardID(shard.ID) for shard in shards]
    if len(set(shard_ids)) < len(shard_ids) or len(set(group_ids)) < len(group_ids):
        raise PlanError("the backup's metastore has a shard or a shard group of one number twice")
    if (
        min(shard_ids, default=HIGHEST_ID) > before.max_shard_id
        and min(group_ids, default=HIGHEST_ID) > before.max_shard_group_id
        and max([*shard_ids, *group_ids], default=0) < HIGHEST_ID
        and not set(shard_ids) & set(on_disk)
    ):
        return {shard_id: shard_id for shard_id in shard_ids}, True
    next_shard = max([before.max_shard_id, *on_disk]) + GAP
    next_group = before.max_shard_group_id + GAP
    if max(next_shard + len(shards), next_group + len(groups)) >= HIGHEST_ID:
        raise TargetUnsuitable(f"the cluster's shards are numbered beyond {HIGHEST_ID}")
    for new_id, group in enumerate(groups, next_group):
        group.ID = ShardGroupID(new_id)
    for new_id, shard in enumerate(shards, next_shard):
        shard.ID = new_id
    return dict(zip(shard_ids, (ShardID(shard.ID) for shard in shards), strict=True)), False


def _deal_out(
    plan: RestorePlan,
    messages: Sequence[pb.DatabaseInfo],
    ids: Mapping[ShardID, ShardID],
    nodes: Sequence[NodeInfo],
) -> list[NewShard]:
    """Owners go round the nodes, as the cluster itself deals them."""
    archives = {ids[shard.place.shard_id]: shard for shard in plan.shards}
    dealt: list[NewShard] = []
    turn = 0
    for db in messages:
        for rp in db.RetentionPolicies:
            copies = min(rp.ReplicaN, len(nodes))
            for shard in (shard for group in rp.ShardGroups for shard in group.Shards):
                owners = tuple(nodes[(turn + i) % len(nodes)] for i in range(copies))
                turn += copies
                shard_id = ShardID(shard.ID)
                dealt.append(NewShard(shard_id, db.Name, rp.Name, owners, archives.get(shard_id)))
    return dealt


def _check(raw: bytes, meta: bytes, new: Collection[str]) -> None:
    """Insist that what is to be set is what there was, and the new databases.

    Raises:
        PlanError: it is not, or a cluster could not live with it.
    """
    check_storable(meta)
    there = parse_strictly(pb.Data, raw, "metastore")
    back = parse_strictly(pb.Data, meta, "metastore")
    old = [db for db in back.Databases if db.Name not in new]
    del back.Databases[:]
    back.Databases.extend(old)
    back.MaxShardID, back.MaxShardGroupID = there.MaxShardID, there.MaxShardGroupID
    if back.SerializeToString(deterministic=True) != there.SerializeToString(deterministic=True):
        raise PlanError("the metadata to be set would change what the restore has no business with")


def same_but_for_time(one: Metastore, other: Metastore) -> bool:
    """Whether two metastores differ in nothing but term and index."""
    return replace(one, term=0, index=0) == replace(other, term=0, index=0)
