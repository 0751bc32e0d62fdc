"""The manifest entry of a new archive."""

from __future__ import annotations

from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.damaged import with_whole_ones
from resources.repository.archives.archive import StoredArchive
from resources.repository.backup_set import Archive
from resources.repository.formats.details import Completeness, ShardDetails
from resources.repository.formats.manifest import ShardEntry
from resources.repository.formats.proof import Clocks, Proof


def shard_entry(
    state: ShardState,
    node: str,
    stored: StoredArchive,
    *,
    file_name: str,
    floor_ns: int,
    clocks: Clocks | None,
    complete: Completeness,
    proof: Proof | None,
    seconds: float,
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
            node=node,
            read_at_ns=clocks.server_ns if clocks else None,
            modified_ns=state.modified_ns,
            seconds=seconds,
            group_start_ns=place.group.start_time_ns,
            group_end_ns=place.group.end_time_ns,
            gone=stored.gone,
            read_twice=stored.read_twice,
            owners=state.owners,
            complete=complete,
            proof=proof,
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
