"""What queries are answered from: the metastore, and the points of shards wherever they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from resources.embedded.shards.files import KeyFilter
from resources.model import Metastore, ShardID
from resources.tsm.layout import BlockType
from resources.tsm.merge import SeriesPoints


class Catalog(Protocol):
    """A node's view of its cluster; `keys` and `points` have the signatures of ShardStore's.

    A shard that no node has may be answered as empty; one that cannot be reached raises a
    ShardkeeperError, which becomes the statement's error.
    """

    def metastore(self) -> Metastore:
        """The metastore as of now."""
        ...

    def keys(self, shard_id: ShardID) -> Mapping[bytes, BlockType]:
        """TSM keys of a shard and their types."""
        ...

    def points(
        self, shard_id: ShardID, wanted: KeyFilter | None, min_time_ns: int, max_time_ns: int
    ) -> Iterator[SeriesPoints]:
        """Points of a shard by ascending TSM key, both ends of the range inside."""
        ...
