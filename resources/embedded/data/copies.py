"""Finds the replicas of shards, and reads and writes them for one node.

All nodes are in one process, so a node uses another's store directly while that node is up. There
is no hinted handoff: a node that is down misses writes, and its replica differs from then on.

Source: influxdb-cluster coordinator/points_writer.go and shard_mapper.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count

from msgspec import Struct

from resources.embedded.meta.group import SharedMeta
from resources.embedded.server_errors import PartialWrite, Refusal, ShardUnknown
from resources.embedded.shards.files import KeyFilter
from resources.embedded.shards.points import Point
from resources.embedded.shards.store import ShardStore
from resources.model import Metastore, NodeID, ShardID, ShardPlace
from resources.tsm.layout import BlockType
from resources.tsm.merge import SeriesPoints


class WriteFailed(Refusal):
    """No owner accepted the points (HTTP 500)."""


class Neighbours(Struct, frozen=True):
    """The stores of the cluster's data nodes; a node that is down has none."""

    own: ShardStore
    own_id: Callable[[], NodeID | None]
    """Our own ID; `None` on a single server, which owns every shard."""
    store_of: Callable[[NodeID], ShardStore | None]
    all_up: Callable[[], Sequence[ShardStore]]


class Copies:
    """One node's access to the shards of the cluster; a `Catalog` for queries."""

    def __init__(self, meta: SharedMeta, around: Neighbours) -> None:
        self._meta = meta
        self._around = around
        self._turn = count()
        self._known: tuple[Metastore, dict[ShardID, ShardPlace]] | None = None

    def metastore(self) -> Metastore:
        return self._meta.metastore

    def place(self, shard_id: ShardID) -> ShardPlace | None:
        """The place of a shard; `None` if no live group has it."""
        store = self._meta.metastore
        known = self._known
        if known is None or known[0] is not store:
            known = (store, {place.shard_id: place for place in store.places()})
            self._known = known
        return known[1].get(shard_id)

    # --- reading ----------------------------------------------------------------------------

    def keys(self, shard_id: ShardID) -> Mapping[bytes, BlockType]:
        store = self._readable(shard_id)
        try:
            return store.keys(shard_id) if store is not None else {}
        except ShardUnknown:
            return {}

    def points(
        self, shard_id: ShardID, wanted: KeyFilter | None, min_time_ns: int, max_time_ns: int
    ) -> Iterator[SeriesPoints]:
        store = self._readable(shard_id)
        if store is not None and shard_id in store.shards():
            yield from store.points(shard_id, wanted, min_time_ns, max_time_ns)

    def _readable(self, shard_id: ShardID) -> ShardStore | None:
        """The store of one owner: our own, else that of the next owner that is up.

        An owner without the shard counts and returns no points. A shard without owners is
        skipped, as in the original.

        Raises:
            Refusal: all owners are down.
        """
        own_id = self._around.own_id()
        if own_id is None:
            return self._around.own
        place = self.place(shard_id)
        owners = [owner.node_id for owner in place.shard.owners] if place else []
        if own_id in owners:
            return self._around.own
        up = [store for owner in owners if (store := self._around.store_of(owner)) is not None]
        if owners and not up:
            raise Refusal(f"no owner of shard {shard_id} answers")
        return up[next(self._turn) % len(up)] if up else None

    # --- writing ----------------------------------------------------------------------------

    def write(self, place: ShardPlace, points: Sequence[Point]) -> None:
        """Write points into every reachable replica; creates missing ones.

        Raises:
            PartialWrite: a replica refused some of them.
            WriteFailed: there is no owner, or none is up.
        """
        refused: PartialWrite | None = None
        written = 0
        for store in self._writable(place):
            try:
                try:
                    store.write(place.shard_id, points)
                except ShardUnknown:
                    store.create(place.database, place.policy, place.shard_id)
                    store.write(place.shard_id, points)
            except PartialWrite as error:
                refused = error
            written += 1
        if refused is not None:
            raise refused
        if not written:
            raise WriteFailed("write failed")

    def _writable(self, place: ShardPlace) -> list[ShardStore]:
        if self._around.own_id() is None:
            return [self._around.own]
        stores = (self._around.store_of(owner.node_id) for owner in place.shard.owners)
        return [store for store in stores if store is not None]

    def everywhere(self) -> Sequence[ShardStore]:
        """The stores of all data nodes that are up."""
        return self._around.all_up()
