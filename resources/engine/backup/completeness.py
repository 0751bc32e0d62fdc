"""Does an archive hold everything that its server had acknowledged? Values in, values out.

That a server answered a request for a shard proves nothing. It takes the live store of the
shard's cache away (a snapshot), writes it to files, and lists the files; but

- from 1.8.5 on, a server that is writing a snapshot already tries again for a second and then
  lists the files without the cache; 1.8.0 to 1.8.4 answer with an empty archive;
- after a snapshot that failed, every version writes that old one first, and leaves the live
  store where it is.

What it tells at /debug/vars proves it. A write is counted in the cache before it is
acknowledged, a snapshot is counted from the moment it takes the live store until its files are
among the shard's, and it takes the whole store. So at one moment nothing in memory and no
snapshot means: all is in files. And if there was no snapshot at one moment, none at a later one,
and in between the server answered a request that makes it write its cache, then it or somebody
else has taken what was live at the first moment, and finished. What is in files stays in files,
so an archive whose request is sent after that has it all.

The tests are test_completeness.py, and on real servers tests/faults/busy.py.

Source: influxdb tsdb/engine/tsm1/cache.go (Snapshot, ClearSnapshot), engine.go (WriteSnapshot,
CreateSnapshot), the same from 1.8.3 to 1.12.4; probed on 1.6.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from resources.protocol.server_vars import ShardStats
from resources.repository.formats.details import FileFacts
from resources.repository.formats.proof import ShardFigures


@dataclass(frozen=True, slots=True)
class Sample:
    """What a node told of one shard at one moment."""

    started_ns: int
    """When the process started, by its own clock; counters of two processes do not compare."""
    stats: ShardStats


def is_sufficient(stats: ShardStats) -> bool:
    """Whether completeness can be known: a node that tells no figures of caches leaves it open."""
    return stats.cache is not None


def is_written_out(sample: Sample) -> bool:
    """Whether all that was acknowledged before this sample was asked for is in files."""
    stats, cache = sample.stats, sample.stats.cache
    return (
        cache is not None
        and not cache.is_snapshotting
        and cache.memory_bytes == 0
        and not stats.wal_segment_bytes  # the cache's size is counted with a race, so both
    )


def was_written_out(before: Sample, after: Sample) -> bool:
    """Whether all that was acknowledged before `before` was asked for is in files.

    Only if the server answered a request for the shard's files in between, whichever it was.
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


@dataclass(frozen=True, slots=True)
class Written:
    """A shard of which all that was acknowledged before is in files, and what was told then."""

    sample: Sample
    at_rest: bool
    """Whether nothing else was in memory, so that equal figures mean that nothing changed."""


def written(before: Sample, after: Sample) -> Written | None:
    """What two samples, and a request that was answered in between, prove; None: nothing."""
    if is_written_out(after):
        return Written(after, at_rest=True)
    if not was_written_out(before, after):
        return None
    still = figures(after)
    return Written(after, at_rest=still is not None and still == figures(before))


def figures(sample: Sample) -> ShardFigures | None:
    """What will be the same as long as the shard is; None if some of it is in memory."""
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
    """What an archive lacks of the files that its server had; empty if nothing.

    A server whose counters moved between the two samples may have put files in the place of
    others, so that only one without any file says something.

    Args:
        files: the archive's.
        before, after: asked for before its request was sent, and when it had ended.
    """
    files = list(files)
    tsm = [file.size_bytes for file in files if file.is_tsm]
    first, last = before.stats, after.stats
    if not tsm and first.num_files and last.num_files:
        return f"it is empty, and the server says that the shard has {last.num_files} TSM files"
    if figures(before) is None or figures(before) != figures(after):
        return ""
    if len(tsm) != last.num_files:
        return f"it has {len(tsm)} TSM files, and the server says that it has {last.num_files}"
    if not fits(files, last.disk_bytes) and not _are_cut(files, last.disk_bytes):
        return f"its TSM files have {sum(tsm)} bytes, and the server says {last.disk_bytes}"
    return ""


def _are_cut(files: Sequence[FileFacts], disk_bytes: int) -> bool:
    """Whether files are shorter than their server believes, since they were cut below it.

    It notes a file's size when it opens it. All files came, and one of them is damaged.
    """
    damaged = any(file.is_tsm and file.damage is not None for file in files)
    return damaged and sum(file.size_bytes for file in files if file.is_tsm) < disk_bytes


def fits(files: Iterable[FileFacts], disk_bytes: int) -> bool:
    """Whether files may be those that a server says take so much space.

    It counts tombstones from the next change of files on, or from its next start.
    """
    sizes = [(file.is_tsm, file.size_bytes) for file in files]
    tsm = sum(size for is_tsm, size in sizes if is_tsm)
    return tsm <= disk_bytes <= sum(size for _, size in sizes)
