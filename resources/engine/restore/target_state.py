"""What planning has to know of a target, as it was at one moment."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from resources.model import Metastore


@dataclass(frozen=True, slots=True)
class TargetState:
    """A target, as it was at one moment.

    Attributes:
        name: what to call it in messages.
        metastore: as decoded from `raw`.
        now_ns: its clock, for what its retention would delete.
        write_limits_known: whether it knows write limits, by its version.
        raw: the metastore's bytes; a cluster's are needed to plan the change of it.
    """

    name: str
    metastore: Metastore
    now_ns: int
    write_limits_known: bool = True
    raw: bytes = field(default=b"", repr=False)

    def without(self, databases: Collection[str]) -> TargetState:
        """As if these databases were not there."""
        return replace(self, metastore=self.metastore.without(databases))
