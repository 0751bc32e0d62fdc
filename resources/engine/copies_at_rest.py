"""Do a shard's copies hold the same, as far as that shows without reading them?

Copies that are written to have different sizes at any moment: caches become files, and files
become one, at other times on each node. Once nothing is in memory and all is one file, equal
points make files of equal size, and a node then says that the shard is cold. On
influxdb-cluster 1.8.11-c1.2.0 copies whose sizes differed by 5 percent beside two writers and
six backups, and were hot, were cold and equal to the byte six seconds after the last write.

Source: influxdb-cluster tsdb/engine/tsm1/engine.go (IsIdle), compact.go (FullyCompacted).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from resources.clients.source import Holdings, ShardCopy, Source
from resources.engine.events import Tell, Warned
from resources.model import Metastore, NodeID, ShardID, ShardPlace

MOST_TOLD = 10


def warn_of_differing(
    source: Source,
    metastore: Metastore,
    places: Sequence[ShardPlace],
    before: Holdings,
    *,
    tell: Tell,
) -> None:
    """Tell of shards that nobody touches and that are not the same size on all their owners.

    Nodes are asked one after the other, and a write may come in between; so who differs is
    asked once more, and what moved meanwhile is not told.

    Args:
        before: what the nodes had at first.

    Raises:
        WireError: the meta nodes broke off.
    """
    addresses = {node.id: node.tcp_addr for node in metastore.data_nodes}
    suspects = {
        place.shard_id: copies
        for place in places
        if _differ(copies := _of_owners(place, addresses, before))
    }
    if not suspects:
        return
    now = source.holdings(metastore)
    differing = {
        place.shard_id: suspects[place.shard_id]
        for place in places
        if place.shard_id in suspects
        and _of_owners(place, addresses, now) == suspects[place.shard_id]
    }
    for shard_id, copies in list(differing.items())[:MOST_TOLD]:
        tell(Warned(_told(shard_id, copies)))
    if len(differing) > MOST_TOLD:
        tell(Warned(f"the copies of {len(differing) - MOST_TOLD} more shards differ"))


def _of_owners(
    place: ShardPlace, addresses: Mapping[NodeID, str], holdings: Holdings
) -> tuple[ShardCopy, ...]:
    """What each owner that answers has; one that has nothing is at rest."""
    found = {copy.node: copy for copy in holdings.copies.get(place.shard_id, ())}
    nodes = [addresses.get(owner.node_id, "") for owner in place.shard.owners]
    return tuple(
        found.get(node, ShardCopy(node, size_bytes=0, is_at_rest=True))
        for node in nodes
        if node and node not in holdings.silent
    )


def _differ(copies: Sequence[ShardCopy]) -> bool:
    return all(copy.is_at_rest for copy in copies) and len({c.size_bytes for c in copies}) > 1


def _told(shard_id: ShardID, copies: Sequence[ShardCopy]) -> str:
    each = ", ".join(
        f"{copy.node} has {f'{copy.size_bytes} bytes' if copy.size_bytes else 'nothing'}"
        for copy in copies
    )
    return (
        f"shard {shard_id}: its copies differ, and nobody is writing to it: {each}; a backup "
        "has one of them (-from chooses the node), and so has the answer to a query"
    )
