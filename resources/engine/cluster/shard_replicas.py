"""Have a cluster create a number of shards, then a number of replicas of each.

How many shards a new shard group gets follows from its policy's replication factor, and a
restore needs as many as the backup has. So where these factors differ, groups are made under
one that gives the shards, then owners are added or taken away, then the policy gets the other
factor. Nothing is in the shards meanwhile.

Source: influxdb-cluster services/meta/data.go, CreateShardGroup.
"""

from __future__ import annotations

from math import gcd

from resources.clients.cluster import Cluster
from resources.engine.cluster.rollback import persistently
from resources.model import Metastore
from resources.protocol import meta_pb2 as pb
from resources.protocol.commands import CopyShardOwner, RemoveShardOwner, UpdateRetentionPolicy


def factor_for(rp: pb.RetentionPolicyInfo, n_nodes: int) -> int | None:
    """The replication factor under which a cluster makes the shards of a policy's groups.

    The policy's own if that does; None if none does.
    """
    wanted = {len(group.Shards) for group in rp.ShardGroups}
    if not wanted or wanted == {_shards_made(rp.ReplicaN, n_nodes)}:
        return rp.ReplicaN
    factors = range(1, n_nodes + 1)
    return next((factor for factor in factors if wanted == {_shards_made(factor, n_nodes)}), None)


def _shards_made(replica_n: int, n_nodes: int) -> int:
    """As few shards as give every node equally many copies."""
    return n_nodes // gcd(n_nodes, min(max(replica_n, 1), n_nodes))


def set_copies(cluster: Cluster, now: Metastore, database: str, policy: str, copies: int) -> int:
    """Give every shard of a policy `copies` owners, and the policy this factor.

    Nodes that own a shard already come first, then the nodes take turns. Returns the index that
    the metastore has reached.

    Raises:
        WireError: some of it may be done.
    """
    nodes = sorted(node.id for node in now.data_nodes)
    turn = 0
    for place in now.places():
        if (place.database, place.policy) != (database, policy):
            continue
        owners = {owner.node_id for owner in place.shard.owners}
        at = turn % len(nodes)
        in_turn = [*nodes[at:], *nodes[:at]]
        wanted = sorted(in_turn, key=lambda node: node not in owners)[:copies]
        turn += copies
        for node in wanted:
            if node not in owners:
                persistently(cluster, CopyShardOwner(place.shard_id, node))
        for node in owners.difference(wanted):
            persistently(cluster, RemoveShardOwner(place.shard_id, node))
    return persistently(cluster, UpdateRetentionPolicy(database, policy, replica_n=copies))
