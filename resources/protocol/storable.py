"""Checks metadata that replaces a cluster's whole metastore."""

from __future__ import annotations

from collections.abc import Collection, Hashable

from resources.errors import BadReply, PlanError
from resources.protocol import meta_pb2 as pb
from resources.protocol.meta import decode_metastore, parse_strictly


def check_storable(meta: bytes) -> None:
    """Require that a cluster can work with `meta`, a serialized `Data`, as its metastore.

    Without meta nodes the cluster finds no leader; an owner that is not a data node breaks
    /show-shards; the cluster would assign an ID beyond the highest a second time.

    Raises:
        PlanError: the cluster could not; the message has the first reason.

    Source: influxdb-cluster services/meta/store.go (leaderHTTP, shards) and data.go.
    """
    try:
        store = decode_metastore(meta)
        legacy = parse_strictly(pb.Data, meta, "metastore").Nodes
    except BadReply as error:
        raise PlanError(f"metadata to be set: {error.what}") from None
    data_nodes = [node.id for node in store.data_nodes]
    nodes = [*data_nodes, *(node.id for node in store.meta_nodes)]
    policies = [rp for db in store.databases for rp in db.retention_policies]
    groups = [group for rp in policies for group in rp.shard_groups]
    shards = [shard.id for group in groups for shard in group.shards]
    owners = {owner.node_id for place in store.places() for owner in place.shard.owners}
    group_ids = [group.id for group in groups]
    complaints = (
        (not store.meta_nodes, "names no meta node"),
        (bool(legacy), "lists nodes in the form of releases before 0.10"),
        (_duplicates(data_nodes), "has a data node twice"),
        (_duplicates([db.name for db in store.databases]), "has a database twice"),
        (_duplicates(shards), "has a shard ID twice"),
        (_duplicates(group_ids), "has a shard group ID twice"),
        (not owners <= set(data_nodes), "has owners that are not data nodes"),
        (max(shards, default=0) > store.max_shard_id, "has a shard ID beyond the highest"),
        (max(group_ids, default=0) > store.max_shard_group_id, "has a group ID beyond the highest"),
        (max(nodes, default=0) > store.max_node_id, "has a node ID beyond the highest"),
    )
    for wrong, complaint in complaints:
        if wrong:
            raise PlanError(f"metadata to be set {complaint}")


def _duplicates(values: Collection[Hashable]) -> bool:
    return len(set(values)) < len(values)
