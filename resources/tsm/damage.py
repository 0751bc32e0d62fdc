"""What is wrong with a TSM file, part by part: values that manifests, reports and people read."""

from __future__ import annotations

from dataclasses import dataclass

MAX_NAMED = 20
"""Parts of one file that are named; all are counted."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One part of a file that cannot be trusted.

    Attributes:
        offset: where it begins in the file.
        size_bytes: how much of the file is lost with it; 0 if its block is whole all the same.
        key: series and field, fit for a message; empty if nobody can tell.
        min_time_ns: when its points begin, as the index says; None if that is not known.
        max_time_ns: when they end.
        why: what is wrong.
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


@dataclass(frozen=True, slots=True)
class FileDamage:
    """All that is wrong with one file.

    Attributes:
        parts: how many parts are damaged.
        lost_bytes: of its blocks, those that nothing sound is left of.
        first: the first of the parts.
        whole_in: the manifest of an earlier backup that has this very file whole; empty: none.
    """

    parts: int
    lost_bytes: int
    first: tuple[Damage, ...]
    whole_in: str = ""
