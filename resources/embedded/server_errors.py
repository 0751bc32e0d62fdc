"""The refusals of an embedded node, in the words of the original server.

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
    """A query that is not InfluxQL, or not in the supported subset (HTTP 400)."""


class StatementFailed(Refusal):
    """A statement that cannot be executed; its result has the text (HTTP 200)."""


class ShardUnknown(Refusal):
    """The store has no shard of that id."""


class ShardTaken(Refusal):
    """The store has the shard already, in another database or policy."""


class ShardDisabled(Refusal):
    """The shard is being restored, so it cannot be read, written or backed up."""
