"""What a node says no to, in the words of the server it stands for.

Source: influxdb tsdb/store.go, tsdb/shard.go, models/points.go; influxql/parser.go.
"""

from __future__ import annotations

from resources.errors import ShardkeeperError


class Refusal(ShardkeeperError):
    """A request that a data node refuses; `str` of it is the server's `error` text."""


class PartialWrite(Refusal):
    """Points that contradict the shard's field types; the others were written (HTTP 400)."""

    def __init__(self, reason: str, dropped: int) -> None:
        super().__init__(f"partial write: {reason} dropped={dropped}")
        self.reason = reason
        self.dropped = dropped


class QueryUnparsable(Refusal):
    """A query that is not InfluxQL, or not of the subset (HTTP 400)."""


class StatementFailed(Refusal):
    """A statement that cannot be carried out; its result holds the text (HTTP 200)."""


class ShardUnknown(Refusal):
    """The store has no shard of that number."""


class ShardTaken(Refusal):
    """The store has the shard already, in another database or policy."""


class ShardDisabled(Refusal):
    """The shard is being restored, and neither written, read nor saved meanwhile."""
