"""Options of a run, named as on the command line."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from resources.model import ShardID, ShardLocation
from resources.repository.archives.gzip_stream import Level
from resources.repository.formats.details import Checked, Strategy
from resources.repository.formats.manifest import Limits

Damaged = Literal["keep", "refuse", "accept"]


class Retry(Struct, frozen=True):
    """How many attempts a shard gets, and the pauses between them."""

    attempts: int = 6
    first_pause_s: float = 0.5
    longest_pause_s: float = 15.0

    def pause_s(self, attempt: int) -> float:
        """The pause after attempt number `attempt`, counted from 1; it doubles each time."""
        return min(self.longest_pause_s, self.first_pause_s * 2 ** (attempt - 1))

    @property
    def patience_s(self) -> float:
        """How long a run waits for a peer that does not answer: once, for all of its shards."""
        return sum(self.pause_s(attempt) for attempt in range(1, self.attempts))


class BackupOptions(Struct, frozen=True):
    """How to back up.

    Attributes:
        limits: `-db`, `-rp`, `-shard`.
        full: copy every shard, changed or not (`-full`).
        level: `-gzipCompressionLevel`.
        checked: `-verify`; "full" checks every block, "structure" headers and indexes.
        proven: `-verify inflated`; what was compressed is inflated again before it is stored.
        read_twice_bytes: `-read-twice`: new files of a shard are read again and compared, if they
            are no larger than this in total; 0: never.
        parallel: connections at once; more than two do not help a server with two cores.
        per_node: the limit of these for one data node; None: no further limit.
        workers: processes that copy, if the source can be reached from others; None: by cores and
            by what there is to do; 1: this process alone.
        prefer: TCP address of the node to read from first (`-from`).
        internal: whether `_internal`, the server's own monitoring, is copied; no restore needs it.
        peek: only report which shards changed, without making the source write its caches.
        only_meta: save the metastore and no shard (`-strategy only-meta`).
        start_ns, end_ns: only shards that may hold points of this time, whole (`-start`, `-end`);
            the end is exclusive.
        only: these shards and no others, within the limits; None: all. Shards that the server
            does not have, or has in another place, are skipped, unless it has none of them.
        again: shards whose archives here are damaged; they are copied, changed or not.
        staleness_ns: `-staleness-threshold`: a cluster's shard is not copied yet if it was last
            modified at most this long after the state in its archive.
        damaged: `-damaged`: a shard that is damaged at its source is saved as it is and marked
            ("keep"), or fails ("refuse"). Files that a server lost are named by each backup, until
            one accepts that they are gone ("accept"; otherwise as "keep").
        require_complete: `-require-complete`: a shard fails if its node does not report whether
            the archive is complete; otherwise a warning and the manifest say so.
        new_era: `-new-era`: the backups here are of another server, or of another state of this
            one, and stay; this backup copies everything and begins a new era beside them.
        remembered: a backup that is known to have been made in this directory; empty: none is
            known. If the directory then holds no backup, it is not the right one.
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
    workers: int | None = 1
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
