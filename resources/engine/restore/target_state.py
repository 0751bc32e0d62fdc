"""What planning has to know of a target, as it was at one moment."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct
from msgspec.structs import replace

from resources.model import Metastore
from resources.values import repr_without


class TargetState(Struct, frozen=True):
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
    raw: bytes = b""

    __repr__ = repr_without("raw")

    def without(self, databases: Collection[str]) -> TargetState:
        """As if these databases were not there."""
        return replace(self, metastore=self.metastore.without(databases))
