"""Do a shard's replicas hold the same points, as far as their sizes show it?

Replicas that receive writes have different sizes at any moment: each node writes caches to files
and compacts files at other times. When nothing is in memory and all is one file, equal points make
files of equal size, and the node reports the shard as cold. On influxdb-cluster 1.8.11-c1.2.0
replicas differed by 5 percent in size and were hot while two writers and six backups ran; six
seconds after the last write they were cold and equal to the byte.

Source: influxdb-cluster tsdb/engine/tsm1/engine.go (IsIdle), compact.go (FullyCompacted).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from resources.clients.source import BackupSource, ReplicaInventory, ShardCopy
from resources.engine.events import Emit, Warned
from resources.model import Metastore, NodeID, ShardID, ShardPlace
from resources.repository.formats.owner_facts import OwnerFacts

MAX_REPORTED = 10


class Comparison(Struct, frozen=True):
    """The result of comparing the replicas of shards."""

    compared: int = 0
    """How many shards have no writes and owners that all answer; others cannot be compared."""
    differing: Mapping[ShardID, tuple[ShardCopy, ...]] = field(
        default_factory=dict[ShardID, tuple[ShardCopy, ...]]
    )
    """Shards without writes whose owners have different sizes: what each owner has."""
    whole: Mapping[ShardID, str] = field(default_factory=dict[ShardID, str])
    """Of these, by shard: a node whose replica is known to have all points."""


def differing_copies(
    source: BackupSource,
    metastore: Metastore,
    places: Sequence[ShardPlace],
    before: ReplicaInventory,
    owners: Mapping[ShardID, Sequence[OwnerFacts]],
) -> Comparison:
    """Find shards without writes whose owners report different sizes.

    The nodes are polled one after the other, and a write may come in between. So the differing
    ones are polled again, and shards that changed meanwhile are left out.

    Args:
        before: what the nodes reported at first.
        owners: what is known of replicas; those of different sizes may have the same points.

    Raises:
        WireError: the meta nodes do not answer any more.
    """
    addresses = {node.id: node.tcp_addr for node in metastore.data_nodes}
    compared, suspects = 0, dict[ShardID, tuple[ShardCopy, ...]]()
    for place in places:
        copies = _of_owners(place, addresses, before)
        if not _at_rest(copies):
            continue
        compared += len(copies) == len(place.shard.owners)
        if _differ(copies) and not _same_points(copies, owners.get(place.shard_id, ())):
            suspects[place.shard_id] = copies
    if not suspects:
        return Comparison(compared)
    now = source.inventory(metastore)
    differing = {
        place.shard_id: suspects[place.shard_id]
        for place in places
        if place.shard_id in suspects
        and _of_owners(place, addresses, now) == suspects[place.shard_id]
    }
    whole = {shard_id: node for shard_id in differing if (node := _whole(owners.get(shard_id, ())))}
    return Comparison(compared, differing, whole)


def emit_differing(found: Comparison, *, emit: Emit) -> None:
    """Warn of the first `MAX_REPORTED`, and of the number of the others."""
    differing = found.differing
    for shard_id, copies in list(differing.items())[:MAX_REPORTED]:
        emit(Warned(_described(shard_id, copies, found.whole.get(shard_id, ""))))
    if len(differing) > MAX_REPORTED:
        emit(Warned(f"the copies of {len(differing) - MAX_REPORTED} more shards differ"))


def _of_owners(
    place: ShardPlace, addresses: Mapping[NodeID, str], inventory: ReplicaInventory
) -> tuple[ShardCopy, ...]:
    """The replica of each owner that answers; one without the shard counts as at rest."""
    found = {copy.node: copy for copy in inventory.copies.get(place.shard_id, ())}
    nodes = [addresses.get(owner.node_id, "") for owner in place.shard.owners]
    return tuple(
        found.get(node, ShardCopy(node, size_bytes=0, is_at_rest=True))
        for node in nodes
        if node and node not in inventory.silent
    )


def _at_rest(copies: Sequence[ShardCopy]) -> bool:
    return all(copy.is_at_rest for copy in copies)


def _differ(copies: Sequence[ShardCopy]) -> bool:
    return len(copies) > 1 and len({copy.size_bytes for copy in copies}) > 1


def _same_points(copies: Sequence[ShardCopy], owners: Sequence[OwnerFacts]) -> bool:
    """Whether all replicas were read and hold the same points."""
    same = {owner.node for owner in owners if owner.holds == "same"}
    return all(copy.node in same for copy in copies)


def _whole(owners: Sequence[OwnerFacts]) -> str:
    """A node that has all points, if the replicas were read; else empty."""
    if any(owner.holds not in ("same", "less") for owner in owners):
        return ""
    return next((owner.node for owner in owners if owner.holds == "same"), "")


def _described(shard_id: ShardID, copies: Sequence[ShardCopy], whole: str) -> str:
    each = ", ".join(
        f"{copy.node} has {f'{copy.size_bytes} bytes' if copy.size_bytes else 'nothing'}"
        for copy in copies
    )
    what = (
        f"the archive has what {whole} has, which is all of their points"
        if whole
        else "the archive has one of them (-from prefers a node)"
    )
    return (
        f"shard {shard_id}: its copies differ, and nothing is writing to it: {each}; {what}; any "
        "of them may answer a query"
    )
