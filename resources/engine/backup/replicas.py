"""Choose the replica of a shard that is read, and note the state of all of them.

A node that was down while points were written has fewer points than the others, and looks newest
after its cache was written out. So replicas of one size are ranked by what their nodes reported
before any backup had touched them; the archive's entry keeps that. Replicas of different sizes are
read and compared, point by point (see `replica_points`). If an archive was made of the worse one,
the next run notices and makes another.

Held by: tests/resources/engine/backup/test_replicas.py; tests/wire/test_cluster_replicas.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from msgspec.structs import replace

from resources.clients.source import BackupSource, ReplicaInventory, ShardCopy
from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.damaged import describe_damage
from resources.engine.backup.replica_caches import Replica, Unproven, unproven
from resources.engine.backup.replica_files import files_of, is_proof
from resources.engine.events import Emit, Warned
from resources.engine.options import BackupOptions
from resources.errors import ArchiveCorrupt, ShardkeeperError, WireError
from resources.model import Metastore, ShardID
from resources.repository.formats.details import FileFacts
from resources.repository.formats.owner_facts import Holds, OwnerFacts
from resources.runtime.workers import each_in_threads
from resources.tsm.damage import FileDamage

MAX_COMPARED_BYTES = 2 << 30
"""Total of a shard's replicas; two of them at a time need room in scratch space."""
MAX_ATTEMPTS = 2
BUFFER_BYTES = 256 << 10


def moved(
    noted: Sequence[OwnerFacts], read_from: str, copies: Sequence[ShardCopy]
) -> tuple[ShardCopy, ...] | None:
    """Replicas whose time or state moved while their size did not: their files must be compared.

    Args:
        noted: the owners' facts when the archive was made.
        read_from: the node that it was read from.
        copies: the replicas of the owners that answer.

    Returns None if something has changed, or if the earlier state is unknown.
    """
    by_node = {owner.node: owner for owner in noted}
    size_bytes = by_node[read_from].size_bytes if read_from in by_node else None
    suspects: list[ShardCopy] = []
    for copy in copies:
        before = by_node.get(copy.node)
        if before is None:
            if not copy.is_at_rest or copy.size_bytes != size_bytes:
                return None
        elif copy.size_bytes != before.size_bytes:
            return None
        elif (copy.last_modified_ns or 0) != before.modified_ns or before.at_rest > copy.is_at_rest:
            if not is_proof(before.files, at_rest=copy.is_at_rest):
                return None
            suspects.append(copy)
    return tuple(suspects) if copies else None


def seen_ns(copy: ShardCopy, noted: Iterable[OwnerFacts]) -> int:
    """When a replica was last modified, apart from the effects of a backup."""
    for owner in noted:
        if owner.node == copy.node and owner.modified_ns == (copy.last_modified_ns or 0):
            return owner.seen_ns
    return copy.last_modified_ns or 0


def best_first(
    copies: Sequence[ShardCopy], owners: Iterable[OwnerFacts], prefer: str
) -> tuple[ShardCopy, ...]:
    """The preferred node's replica, then those with data, the last written one first."""
    if len(copies) < 2:
        return tuple(copies)
    seen = {owner.node: owner.seen_ns for owner in owners}
    return tuple(
        sorted(
            copies,
            key=lambda c: (
                c.node == prefer,
                bool(c.size_bytes),
                seen.get(c.node, 0),
                c.size_bytes or 0,
            ),
            reverse=True,
        )
    )


def settle(
    source: BackupSource,
    metastore: Metastore,
    states: Sequence[ShardState],
    scratch_dir: str | None,
    options: BackupOptions,
    *,
    emit: Emit,
) -> list[ShardState]:
    """Have caches of shards to copy written out, note what nodes report then, and rank replicas.

    Raises:
        WireError: the meta nodes do not answer any more.
    """
    stale = [state for state in states if state.stale and state.copies]
    if not stale:
        return list(states)
    asked = [(state.place.shard_id, copy.node) for state in stale for copy in state.copies]
    files = _write_out(source, asked, options)
    later = source.inventory(metastore)
    doubted = _unproven(source, asked, later, files, options, emit=emit)
    if doubted is not None:
        later = source.inventory(metastore)
    settled: dict[ShardID, ShardState] = {}
    for state in stale:
        nodes = {copy.node for copy in state.copies}
        copies = [c for c in later.copies.get(state.place.shard_id, ()) if c.node in nodes]
        if copies:
            settled[state.place.shard_id] = _noted(state, copies, files, options)
    if doubted is not None:
        settled = {i: _without(state, doubted.busy) for i, state in settled.items()}
    unlike = [state for state in settled.values() if _unlike(state.copies)]
    ranked = _ranked(source, unlike, scratch_dir, options, emit=emit)
    settled |= {state.place.shard_id: state for state in ranked}
    return [settled.get(state.place.shard_id, state) for state in states]


def _unproven(
    source: BackupSource,
    asked: Sequence[Replica],
    later: ReplicaInventory,
    files: dict[Replica, str],
    options: BackupOptions,
    *,
    emit: Emit,
) -> Unproven | None:
    """Replicas of which something may be only in memory; None if all are at rest."""
    at_rest = {(i, c.node) for i, copies in later.copies.items() for c in copies if c.is_at_rest}
    doubted = [replica for replica in asked if replica not in at_rest]
    if not doubted:
        return None

    def write_out(replicas: Collection[Replica]) -> Collection[Replica]:
        again = _write_out(source, list(replicas), options)
        files.update(again)
        return [replica for replica, name in again.items() if name]

    found = unproven(source, doubted, write_out)
    if found.mute:
        nodes = ", ".join(sorted(found.mute))
        emit(
            Warned(
                f"{nodes}: it is not known whether caches were written out, so archives may lack "
                "the newest points: HTTP does not report it (-http, -user and -pwd-file; -http "
                "none does without)"
            )
        )
    return found


def _without(state: ShardState, busy: Collection[Replica]) -> ShardState:
    """The state without replicas of which something is only in memory."""
    nodes = [copy.node for copy in state.copies if (state.place.shard_id, copy.node) in busy]
    if not nodes:
        return state
    why = (
        f"{', '.join(nodes)} did not write out what it has of it in memory: is its disk slow or "
        'full, or does another backup run? look for "snapshot" in its log'
    )
    good = tuple(copy for copy in state.copies if copy.node not in nodes)
    if not good:
        return replace(state, copies=(), trouble=why)
    return replace(
        state,
        copies=good,
        owners=tuple(owner for owner in state.owners if owner.node not in nodes),
        gaps=f"{why}; the archive is made of what {good[0].node} has, which may be less",
    )


def _write_out(
    source: BackupSource, asked: Sequence[Replica], options: BackupOptions
) -> dict[Replica, str]:
    """Request files, which makes the nodes write their caches; returns names for the files."""

    def ask(item: Replica) -> str:
        shard_id, node = item
        with suppress(WireError, ArchiveCorrupt):  # the download reports what is wrong
            return files_of(source, node, shard_id)
        return ""

    try:
        found = each_in_threads(
            ask, asked, parallel=options.of_one_node, name="flush", give_up=source.abort
        )
    finally:
        source.resume()
    return dict(zip(asked, found, strict=True))


def _noted(
    state: ShardState,
    copies: Sequence[ShardCopy],
    files: Mapping[Replica, str],
    options: BackupOptions,
) -> ShardState:
    seen = {owner.node: owner.seen_ns for owner in state.owners}
    owners = tuple(
        OwnerFacts(
            copy.node,
            copy.last_modified_ns or 0,
            copy.size_bytes or 0,
            copy.is_at_rest,
            seen.get(copy.node, 0),
            files.get((state.place.shard_id, copy.node), ""),
        )
        for copy in copies
    )
    times = [copy.last_modified_ns for copy in copies if copy.last_modified_ns is not None]
    return replace(
        state,
        copies=best_first(copies, owners, options.prefer),
        modified_ns=max(times, default=None),
        owners=owners,
    )


def _unlike(copies: Sequence[ShardCopy]) -> bool:
    return len({copy.size_bytes for copy in copies}) > 1


def _ranked(
    source: BackupSource,
    unlike: Sequence[ShardState],
    scratch_dir: str | None,
    options: BackupOptions,
    *,
    emit: Emit,
) -> list[ShardState]:
    """Read replicas of different sizes, and put those with all points first."""

    def one(state: ShardState) -> tuple[ShardState, tuple[str, ...]]:
        if sum(copy.size_bytes or 0 for copy in state.copies) > MAX_COMPARED_BYTES:
            return _too_large(state)
        why = ""
        for _ in range(MAX_ATTEMPTS):
            try:
                return _compared(
                    source, state, scratch_dir, keep_damaged=options.damaged != "refuse"
                )
            except ShardkeeperError as error:
                why = error.what
        gaps = f"its replicas have different sizes, and could not be compared: {why}"
        return replace(state, gaps=f"{gaps}; {_sizes(state)}"), ()

    try:
        ranked = each_in_threads(
            one, unlike, parallel=options.of_one_node, name="compare", give_up=source.abort
        )
    finally:
        source.resume()
    for state, lines in ranked:
        for line in lines:
            emit(Warned(f"shard {state.place.shard_id}: {line}"))
    return [state for state, _ in ranked]


def _compared(
    source: BackupSource, state: ShardState, scratch_dir: str | None, *, keep_damaged: bool
) -> tuple[ShardState, tuple[str, ...]]:
    from resources.engine.backup.replica_points import rank
    from resources.repository.archives.unpacked import UnpackedShard

    damaged: dict[str, dict[str, FileDamage]] = {}

    def read(node: str) -> UnpackedShard:
        unpacked = UnpackedShard(scratch_dir, keep_damaged=keep_damaged)
        damaged[node] = unpacked.damaged
        buffer = memoryview(bytearray(BUFFER_BYTES))
        try:
            with source.open_shard(state.place.shard_id, node=node) as stream:
                while n := stream.recv_into(buffer):
                    unpacked.feed(buffer[:n])
            unpacked.finish()
        except BaseException:
            unpacked.close()
            raise
        return unpacked

    found = rank([copy.node for copy in state.copies], read)
    good = [copy for copy in state.copies if found.holds[copy.node] == "same"]
    best = [copy for copy in good if copy.node == found.best]
    first = state.copies[0].node
    if found.holds[first] == "same":
        best = [copy for copy in good if copy.node == first]
    lines = [f"{line}; the archive is made of what {best[0].node} has" for line in found.described]
    lines += [
        f"{node} has it damaged: "
        + describe_damage(FileFacts(name, 0, 0, damage=damage) for name, damage in files.items())
        for node, files in damaged.items()
        if files
    ]
    gaps = found.gaps and f"no node has all of its points: {found.gaps}"
    gaps = "; ".join(text for text in (state.gaps, gaps) if text)
    ranked = replace(
        state,
        copies=(*best, *(copy for copy in good if copy not in best)),
        owners=tuple(replace(owner, holds=found.holds[owner.node]) for owner in state.owners),
        gaps=gaps,
    )
    return ranked, () if found.gaps else tuple(lines)


def _too_large(state: ShardState) -> tuple[ShardState, tuple[str, ...]]:
    holds: Holds = "unread"
    owners = tuple(replace(owner, holds=holds) for owner in state.owners)
    line = "its replicas have different sizes, and are too large to be compared"
    lines = (f"{line}: {_sizes(state)}",) if all(c.is_at_rest for c in state.copies) else ()
    return replace(state, owners=owners), lines


def _sizes(state: ShardState) -> str:
    return ", ".join(f"{copy.node} has {copy.size_bytes} bytes" for copy in state.copies)
