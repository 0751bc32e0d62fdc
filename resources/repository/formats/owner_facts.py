"""What a cluster's data nodes said of their replicas of a shard when its archive was made.

A later run compares it with what they say then; see `resources.engine.backup.replicas`.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from resources.protocol.strict_json import MAX_UINT64, Shape, UInt, too_great

Holds = Literal["", "same", "less", "other", "unread"]
"""How a replica's points were found beside those of the archive: not compared, since sizes were
equal; the same ones; some of them; others too; or not compared although sizes differed."""


class OwnerShape(Shape, frozen=True):
    """A replica; the facts in the order of `OwnerFacts`, from `modified_ns` on."""

    node: str
    facts: tuple[UInt, UInt, UInt, UInt]
    files: str | None = None
    holds: Holds | None = None


class OwnerFacts(Struct, frozen=True):
    """What a data node said of its replica right before the archive was read."""

    node: str
    """TCP address."""
    modified_ns: int
    """Last modified, after its cache was written out."""
    size_bytes: int
    """Files and write-ahead log."""
    at_rest: bool
    """Whether nothing was in memory and nothing left to compact."""
    seen_ns: int
    """Last modified, before a backup had its cache written out, which moves the time."""
    files: str = ""
    """A digest that names the replica's files; empty: not known."""
    holds: Holds = ""

    def encode(self) -> dict[str, Any]:
        """A list of the figures, since there may be thirty thousand of them in a manifest."""
        return {
            "node": self.node,
            "facts": [
                self.modified_ns,
                self.size_bytes,
                int(self.at_rest),
                self.seen_ns,
            ],
            **({"files": self.files} if self.files else {}),
            **({"holds": self.holds} if self.holds else {}),
        }

    @classmethod
    def decode(cls, shape: OwnerShape, name: str) -> OwnerFacts:
        """Read it from a manifest.

        Raises:
            BadReply: a value is out of range.
        """
        modified_ns, size_bytes, at_rest, seen_ns = shape.facts
        if max(shape.facts) > MAX_UINT64:
            raise too_great(name)
        return cls(
            shape.node,
            modified_ns,
            size_bytes,
            bool(at_rest),
            seen_ns,
            shape.files or "",
            shape.holds or "",
        )
