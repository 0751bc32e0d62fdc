"""What held when a shard was found to be just what its archive holds.

A later run compares it with what holds then; see `resources.engine.backup.change_detection`.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from resources.model import ShardID
from resources.protocol.strict_json import MAX_UINT64, Shape, UInt, too_great

ClocksShape = tuple[UInt, UInt, UInt]


class ProofShape(Shape, frozen=True):
    """Lists in the order of `Clocks` and `ShardFigures`."""

    boot_id: str = field(name="bootID")
    clocks: ClocksShape
    figures: tuple[UInt, UInt, UInt, UInt, UInt, UInt, UInt]


class ShardFigures(Struct, frozen=True):
    """What a server told of a shard while none of it was in memory; equal while nothing changes.

    The counters begin anew with the server, so figures of two processes are never equal.
    """

    started_ns: int
    """When the process started, by its own clock."""
    num_files: int
    disk_bytes: int
    log_bytes: int
    """Of the log's current segment; influxd 1.6 goes on telling what it read at its start."""
    log_writes: int
    compactions: int
    taken_bytes: int


class Clocks(Struct, frozen=True):
    """A server's clock and ours at the same moment."""

    server_ns: int
    ours_ns: int
    boot_ns: int
    """Since our machine started; no one can set this clock."""
    boot_id: str
    """Which start of our machine that was; empty if it does not tell."""

    def encode(self) -> dict[str, Any]:
        return {"bootID": self.boot_id, "clocks": [self.server_ns, self.ours_ns, self.boot_ns]}

    @classmethod
    def decode(cls, clocks: ClocksShape, boot_id: str | None, name: str) -> Clocks:
        """Read it from a manifest.

        Raises:
            BadReply: a value is out of range.
        """
        if max(clocks) > MAX_UINT64:
            raise too_great(name)
        return cls(*clocks, boot_id or "")


class Proof(Struct, frozen=True):
    """What held when a shard was found to be just what its archive holds."""

    clocks: Clocks
    """Before its files were listed."""
    figures: ShardFigures

    def encode(self) -> dict[str, Any]:
        """Lists, since there may be ten thousand of them in a manifest."""
        clocks, figures = self.clocks, self.figures
        return {
            "bootID": clocks.boot_id,
            "clocks": [clocks.server_ns, clocks.ours_ns, clocks.boot_ns],
            "figures": [
                figures.started_ns,
                figures.num_files,
                figures.disk_bytes,
                figures.log_bytes,
                figures.log_writes,
                figures.compactions,
                figures.taken_bytes,
            ],
        }

    @classmethod
    def decode(cls, shape: ProofShape, name: str) -> Proof:
        """Read it from a manifest.

        Raises:
            BadReply: a value is out of range.
        """
        if max(shape.figures) > MAX_UINT64:
            raise too_great(name)
        return cls(Clocks.decode(shape.clocks, shape.boot_id, name), ShardFigures(*shape.figures))


class ProvenAgain(Struct, frozen=True):
    """A shard that a later backup read again and found to be as in its archive."""

    shard_id: ShardID
    content: str
    """Of the archive, as `ShardDetails.content`."""
    proof: Proof
