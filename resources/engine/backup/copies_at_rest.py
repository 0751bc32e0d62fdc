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
from dataclasses import dataclass, field

from resources.clients.source import Holdings, ShardCopy, Source
from resources.engine.events import Tell, Warned
from resources.model import Metastore, NodeID, ShardID, ShardPlace

MOST_TOLD = 10


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of comparing the copies of shards."""

    compared: int = 0
    """Shards that nobody touches and whose owners all answer; the others cannot be compared."""
    differing: Mapping[ShardID, tuple[ShardCopy, ...]] = field(
        default_factory=dict[ShardID, tuple[ShardCopy, ...]]
    )
    """Shards that nobody touches and that are not alike on all their owners: what each has."""


def differing_copies(
    source: Source,
    metastore: Metastore,
    places: Sequence[ShardPlace],
    before: Holdings,
) -> Comparison:
    """Find shards that nobody touches and that are not the same size on all their owners.

    Nodes are asked one after the other, and a write may come in between; so who differs is
    asked once more, and what moved meanwhile is left out.

    Args:
        before: what the nodes had at first.

    Raises:
        WireError: the meta nodes broke off.
    """
    addresses = {node.id: node.tcp_addr for node in metastore.data_nodes}
    found = {place.shard_id: _of_owners(place, addresses, before) for place in places}
    compared = sum(
        len(found[place.shard_id]) == len(place.shard.owners) and _at_rest(found[place.shard_id])
        for place in places
    )
    suspects = {shard_id: copies for shard_id, copies in found.items() if _differ(copies)}
    if not suspects:
        return Comparison(compared)
    now = source.holdings(metastore)
    differing = {
        place.shard_id: suspects[place.shard_id]
        for place in places
        if place.shard_id in suspects
        and _of_owners(place, addresses, now) == suspects[place.shard_id]
    }
    return Comparison(compared, differing)


def tell_of_differing(found: Comparison, *, tell: Tell) -> None:
    """Tell of some, and how many more there are."""
    differing = found.differing
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


def _at_rest(copies: Sequence[ShardCopy]) -> bool:
    return all(copy.is_at_rest for copy in copies)


def _differ(copies: Sequence[ShardCopy]) -> bool:
    return _at_rest(copies) and len({copy.size_bytes for copy in copies}) > 1


def _told(shard_id: ShardID, copies: Sequence[ShardCopy]) -> str:
    each = ", ".join(
        f"{copy.node} has {f'{copy.size_bytes} bytes' if copy.size_bytes else 'nothing'}"
        for copy in copies
    )
    return (
        f"shard {shard_id}: its copies differ, and nobody is writing to it: {each}; a backup "
        "has one of them (-from chooses the node), and so has the answer to a query"
    )
