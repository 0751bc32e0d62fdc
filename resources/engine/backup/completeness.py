"""Does an archive hold everything that its server had acknowledged? Values in, values out.

An answer to a request for a shard proves nothing. The server takes the live store of the shard's
cache (a snapshot), writes it to files, and lists the files; but

- from 1.8.5 on, a server that is already writing a snapshot retries for a second and then lists
  the files without the cache; 1.8.0 to 1.8.4 answer with an empty archive;
- after a snapshot that failed, every version writes the old snapshot first, and leaves the live
  store in memory.

The figures at /debug/vars prove it. A write is counted in the cache before it is acknowledged. A
snapshot takes the whole live store, and is counted from that moment until its files are among the
shard's. So a sample with nothing in memory and no snapshot means that everything is in files. The
second proof takes two samples without a snapshot, and between them an answered request that makes
the server write its cache: then that request or another client's has taken what was live at the
first sample, and finished. What is in files stays in files, so an archive that is requested after
the proof has all of it.

Tests: test_completeness.py; on real servers tests/faults/busy.py.

Source: influxdb tsdb/engine/tsm1/cache.go (Snapshot, ClearSnapshot), engine.go (WriteSnapshot,
CreateSnapshot), the same from 1.8.3 to 1.12.4; probed on 1.6.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from resources.protocol.server_vars import ShardStats
from resources.repository.formats.details import FileFacts
from resources.repository.formats.proof import ShardFigures


class Sample(Struct, frozen=True):
    """A node's figures of one shard at one moment."""

    started_ns: int
    """When the process started, by its own clock; counters of two processes do not compare."""
    stats: ShardStats


def is_sufficient(stats: ShardStats) -> bool:
    """Whether the figures can prove completeness; a node that reports no cache figures cannot."""
    return stats.cache is not None


def is_written_out(sample: Sample) -> bool:
    """Whether everything acknowledged before the request of this sample is in files."""
    stats, cache = sample.stats, sample.stats.cache
    return (
        cache is not None
        and not cache.is_snapshotting
        and cache.memory_bytes == 0
        and not stats.wal_segment_bytes  # the cache's size is counted with a race, so both
    )


def was_written_out(before: Sample, after: Sample) -> bool:
    """Whether everything acknowledged before the request of `before` is in files.

    Requires that the server answered a request for the shard's files between the samples.
    """
    if is_written_out(before):
        return True
    first, last = before.stats.cache, after.stats.cache
    return (
        first is not None
        and last is not None
        and before.started_ns == after.started_ns
        and not first.is_snapshotting
        and not last.is_snapshotting
    )


class Written(Struct, frozen=True):
    """A proof that everything acknowledged earlier is in files, with the sample that shows it."""

    sample: Sample
    at_rest: bool
    """Whether nothing else was in memory, so that equal figures mean that nothing changed."""


def written(before: Sample, after: Sample) -> Written | None:
    """The proof by two samples with an answered request between them; None: no proof."""
    if is_written_out(after):
        return Written(after, at_rest=True)
    if not was_written_out(before, after):
        return None
    still = figures(after)
    return Written(after, at_rest=still is not None and still == figures(before))


def figures(sample: Sample) -> ShardFigures | None:
    """Figures that stay equal while the shard does; None if some of it is in memory."""
    stats, cache = sample.stats, sample.stats.cache
    if cache is None or cache.is_snapshotting or cache.memory_bytes:
        return None
    described = (
        sample.started_ns,
        stats.num_files,
        stats.disk_bytes,
        stats.wal_segment_bytes or 0,
        stats.wal_writes or 0,
        stats.compactions or 0,
        cache.taken_bytes,
    )
    return None if min(described) < 0 else ShardFigures(*described)


def missing_files(files: Iterable[FileFacts], before: Sample, after: Sample) -> str:
    """Which of its server's files an archive does not have; empty if it has all.

    If the server's counters moved between the samples, it may have replaced files, so only an
    archive without any file is an error.

    Args:
        files: the archive's.
        before, after: requested before the archive was, and after its end.
    """
    files = list(files)
    tsm = [file.size_bytes for file in files if file.is_tsm]
    first, last = before.stats, after.stats
    if not tsm and first.num_files and last.num_files:
        return f"it is empty, and the server reports {last.num_files} TSM files"
    if figures(before) is None or figures(before) != figures(after):
        return ""
    if len(tsm) != last.num_files:
        return f"it has {len(tsm)} TSM files, and the server reports {last.num_files}"
    if not fits(files, last.disk_bytes) and not _are_cut(files, last.disk_bytes):
        return f"its TSM files have {sum(tsm)} bytes, and the server reports {last.disk_bytes}"
    return ""


def _are_cut(files: Sequence[FileFacts], disk_bytes: int) -> bool:
    """Whether files are shorter than the server reports because they were truncated under it.

    A server notes a file's size when it opens it. All files came, and one of them is damaged.
    """
    damaged = any(file.is_tsm and file.damage is not None for file in files)
    return damaged and sum(file.size_bytes for file in files if file.is_tsm) < disk_bytes


def fits(files: Iterable[FileFacts], disk_bytes: int) -> bool:
    """Whether the files can be those that take `disk_bytes` according to the server.

    A server counts tombstones only after the next change of files, or after a restart.
    """
    sizes = [(file.is_tsm, file.size_bytes) for file in files]
    tsm = sum(size for is_tsm, size in sizes if is_tsm)
    return tsm <= disk_bytes <= sum(size for _, size in sizes)
