"""The damaged parts of a TSM file, as values for manifests and reports."""

from __future__ import annotations

from msgspec import Struct

MAX_NAMED = 20
"""How many parts of one file are listed; all are counted."""


class Damage(Struct, frozen=True):
    """One damaged part of a file.

    Attributes:
        offset: its position in the file.
        size_bytes: how much of the file is lost with it; 0 if its block is still whole.
        key: series and field, escaped for messages; empty if unknown.
        min_time_ns: the time of its first point by the index; None if unknown.
        max_time_ns: the time of its last point.
        why: the fault.
    """

    offset: int
    size_bytes: int
    key: str
    min_time_ns: int | None
    max_time_ns: int | None
    why: str

    def __str__(self) -> str:
        what = f"{self.size_bytes} bytes at offset {self.offset}"
        if self.key:
            what += f", {self.key}"
        return f"{what}: {self.why}"


class FileDamage(Struct, frozen=True):
    """The damage of one file.

    Attributes:
        parts: the number of damaged parts.
        lost_bytes: the size of the blocks that cannot be used.
        first: the first of the parts.
        whole_in: the manifest of an earlier backup with the undamaged file; empty: none.
    """

    parts: int
    lost_bytes: int
    first: tuple[Damage, ...]
    whole_in: str = ""
