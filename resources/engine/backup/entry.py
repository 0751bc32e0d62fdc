"""The manifest entry of a new archive."""

from __future__ import annotations

from msgspec import Struct

from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.completeness import Written, figures
from resources.engine.backup.damaged import with_whole_ones
from resources.repository.archives.archive import StoredArchive
from resources.repository.backup_set import Archive
from resources.repository.formats.details import ShardDetails
from resources.repository.formats.manifest import ShardEntry
from resources.repository.formats.proof import Clocks, Proof


class ShardReading(Struct, frozen=True):
    """How a shard was read."""

    node: str
    clocks: Clocks | None
    """The source's clock before anything was read, and ours; None if it does not report one."""
    written: Written | None
    """The proof that the archive holds everything acknowledged before; None: there is none."""
    seconds: float


def proof_of(clocks: Clocks | None, written: Written | None) -> Proof | None:
    """What holds while the shard does not change; None if that is not known."""
    now = figures(written.sample) if written and written.at_rest else None
    return Proof(clocks, now) if now and clocks else None


def shard_entry(
    state: ShardState, stored: StoredArchive, read: ShardReading, *, file_name: str, floor_ns: int
) -> ShardEntry:
    """The entry of a shard's archive.

    Args:
        floor_ns: the ordering key of the shard's archive in an earlier era; 0: none.
    """
    place, facts = state.place, stored.facts
    return ShardEntry(
        database=place.database,
        policy=place.policy,
        shard_id=place.shard_id,
        file_name=file_name,
        size_bytes=facts.size_bytes,
        last_modified_ns=_later_than(state.previous, state.modified_ns, floor_ns),
        details=ShardDetails(
            sha256=stored.sha256,
            stored_bytes=stored.stored_bytes,
            content=facts.content,
            checked=facts.checked,
            files=with_whole_ones(facts.files, state.previous),
            series=facts.series,
            points=facts.points,
            min_time_ns=facts.min_time_ns,
            max_time_ns=facts.max_time_ns,
            tombstones=facts.tombstones,
            node=read.node,
            read_at_ns=read.clocks.server_ns if read.clocks else None,
            modified_ns=state.modified_ns,
            seconds=read.seconds,
            group_start_ns=place.group.start_time_ns,
            group_end_ns=place.group.end_time_ns,
            gone=stored.gone,
            read_twice=stored.read_twice,
            owners=state.owners,
            complete="unknown" if read.written is None else "proven",
            proof=proof_of(read.clocks, read.written),
        ),
    )


def _later_than(previous: Archive | None, modified_ns: int | None, floor_ns: int) -> int:
    """The ordering key of a new entry: a cluster's time of last change, 0 for a server.

    Among equal keys every reader takes the newest manifest's entry, so with 0 a directory stays
    correct that `influxd backup -portable` writes into as well. An earlier entry with a greater
    key must be exceeded.
    """
    before = previous.entry.last_modified_ns if previous else floor_ns
    return max(modified_ns or 0, before + 1 if before > 0 else 0)
