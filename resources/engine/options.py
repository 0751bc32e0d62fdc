"""What a run may be told, in the words of the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from resources.model import ShardID, ShardLocation
from resources.repository.archives.gzip_stream import Level
from resources.repository.formats.details import Checked, Strategy
from resources.repository.formats.manifest import Limits

Damaged = Literal["keep", "refuse"]


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a shard is tried, and how long to wait in between."""

    attempts: int = 6
    first_pause_s: float = 0.5
    longest_pause_s: float = 15.0

    def pause_s(self, attempt: int) -> float:
        """The pause after the attempt of that number, from 1 on; it doubles."""
        return min(self.longest_pause_s, self.first_pause_s * 2 ** (attempt - 1))

    @property
    def patience_s(self) -> float:
        """How long a peer that is away is waited for: once, for all that only it has."""
        return sum(self.pause_s(attempt) for attempt in range(1, self.attempts))


@dataclass(frozen=True, slots=True)
class BackupOptions:
    """How to back up.

    Attributes:
        limits: `-db`, `-rp`, `-shard`.
        full: copy every shard, changed or not (`-full`).
        level: `-gzipCompressionLevel`.
        checked: `-verify`; "full" checks every block, "structure" headers and indexes.
        proven: `-verify inflated`; what was compressed is inflated again before it is stored.
        read_twice_bytes: `-read-twice`: what is new in a shard is read again and compared, if it
            is no more than this; 0: never.
        parallel: connections at once; more than two do not help a server with two cores.
        per_node: of these, to one data node; None: as many.
        prefer: TCP address of the node to read from first (`-from`).
        internal: whether `_internal`, the server's own monitoring, is copied; no restore needs it.
        peek: only tell which shards changed, as the source tells by itself: caches stay unwritten.
        only_meta: save the metastore and no shard (`-strategy only-meta`).
        start_ns, end_ns: only shards that may hold points of this time, whole (`-start`, `-end`);
            the end is exclusive.
        only: these shards and no others, within the limits; None: no such choice. Those that the
            server does not have, or has in another place, are passed over, unless it has none.
        again: of these shards the archives here are no good, so they are copied, changed or not.
        staleness_ns: `-staleness-threshold`: a cluster's shard that was last modified at most so
            long after the state in its archive is not copied yet.
        damaged: `-damaged`: a shard that is damaged at its source is saved as it is and marked
            ("keep"), or fails ("refuse").
        require_complete: whether a shard fails if nobody tells whether its archive is complete
            (`-require-complete`); else that is said, and noted in the manifest.
        new_era: `-new-era`: what is here is another server's, or another state's of this one, and
            stays; this backup copies everything anew and begins a new era beside it.
        remembered: a backup that was made in the directory, as far as is known elsewhere; empty:
            none. If no backup is there at all, the directory is not the right one.
        lock_wait_s: how long to wait while another run works in the same repository.
    """

    limits: Limits = field(default_factory=Limits)
    full: bool = False
    level: Level = "default"
    checked: Checked = "full"
    proven: bool = False
    read_twice_bytes: int = 8 << 20
    parallel: int = 2
    per_node: int | None = None
    retry: Retry = field(default_factory=Retry)
    prefer: str = ""
    internal: bool = True
    peek: bool = False
    only_meta: bool = False
    start_ns: int | None = None
    end_ns: int | None = None
    only: frozenset[ShardLocation] | None = None
    again: frozenset[ShardID] = frozenset()
    staleness_ns: int = 0
    damaged: Damaged = "keep"
    require_complete: bool = False
    new_era: bool = False
    remembered: str = ""
    lock_wait_s: float = 0.0

    @property
    def of_one_node(self) -> int:
        """Requests at once where all may go to one data node."""
        return min(self.parallel, self.per_node or self.parallel)

    @property
    def limited(self) -> bool:
        """Whether the run leaves out shards that the server has."""
        chosen = self.only is not None or self.start_ns is not None or self.end_ns is not None
        return bool(self.limits) or self.only_meta or chosen

    @property
    def strategy(self) -> Strategy:
        if self.only_meta:
            return "only-meta"
        return "full" if self.full else "incremental"
