"""The data for queries: the metastore, and the points of shards on any node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from resources.embedded.shards.files import KeyFilter
from resources.model import Metastore, ShardID
from resources.tsm.layout import BlockType
from resources.tsm.merge import SeriesPoints


class Catalog(Protocol):
    """A node's view of its cluster; `keys` and `points` have the signatures of ShardStore's.

    A shard that no node has may be empty. An unreachable shard raises a ShardkeeperError, which
    becomes the statement's error.
    """

    def metastore(self) -> Metastore:
        """The present metastore."""
        ...

    def keys(self, shard_id: ShardID) -> Mapping[bytes, BlockType]:
        """TSM keys of a shard and their types."""
        ...

    def points(
        self, shard_id: ShardID, wanted: KeyFilter | None, min_time_ns: int, max_time_ns: int
    ) -> Iterator[SeriesPoints]:
        """Points of a shard by ascending TSM key, both ends of the range inclusive."""
        ...
