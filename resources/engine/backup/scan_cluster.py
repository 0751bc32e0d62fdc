"""Which shards of a cluster have changed, and from which node is each read?

A shard is unchanged if every owner that answers reports the same as when the archive was made:
when its replica was last modified, its size, and whether anything is in memory. A node may move
the time without a change, because a DELETE in one shard touches all shards of the database; then
the size must be equal, and so must the files (see `replica_files`). A change that leaves the time
alone, as after a clock went back, has another size or is in memory.

Making an archive makes the node write its cache to a file, which moves the time. Therefore every
replica's cache is written out first, then the nodes' reports are noted, then the archive is made.
Which replica is read: see `replicas`. Shards that no node has: see `absent`.

Source: influxdb-cluster tsdb/engine/tsm1/engine.go (LastModified; deleteSeriesRange, whose
first FileStore.Apply moves the time of every shard); file_store.go (replace).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from resources.clients.source import BackupSource, ReplicaInventory, ShardCopy
from resources.engine.backup.absent import (
    MissingReplica,
    absence,
    groups_there,
    named,
    named_unknown,
    why_lost,
)
from resources.engine.backup.change_detection import Reason, ShardState
from resources.engine.backup.idle_replicas import Comparison, differing_copies, emit_differing
from resources.engine.backup.observed import SourceState
from resources.engine.backup.replica_files import files_of
from resources.engine.backup.replicas import best_first, moved, seen_ns, settle
from resources.engine.events import Emit, Warned
from resources.engine.options import BackupOptions
from resources.errors import ShardkeeperError
from resources.model import INTERNAL_DATABASE, Metastore, NodeID, ShardPlace
from resources.repository.backup_set import Archive
from resources.repository.formats.details import ShardDetails
from resources.repository.formats.owner_facts import OwnerFacts
from resources.repository.known_archives import KnownArchives
from resources.runtime.workers import each_in_threads


class _Found(Struct):
    """The result of the scan, shard by shard."""

    states: list[ShardState] = field(default_factory=list[ShardState])
    absent: list[ShardPlace] = field(default_factory=list[ShardPlace])
    unknown: list[ShardPlace] = field(default_factory=list[ShardPlace])
    missing: list[MissingReplica] = field(default_factory=list[MissingReplica])


def scan_cluster(
    source: BackupSource,
    now: SourceState,
    wanted: Sequence[ShardPlace],
    known: KnownArchives,
    options: BackupOptions,
    *,
    emit: Emit,
) -> tuple[list[ShardState], list[ShardPlace], Comparison]:
    """Compare every shard with its newest archive.

    Returns the states, including those of lost shards; the shards that no node has and that may
    never have held points; and how replicas compare, which is empty with `peek`.

    Raises:
        WireError: the meta nodes do not answer any more.
    """
    metastore, inventory = now.metastore, now.inventory
    for node, error in inventory.silent.items():
        hint = f" ({error.hint})" if error.hint else ""
        emit(Warned(f"data node {node} does not answer: {error.what}{hint}"))
    found = _scan(metastore, wanted, inventory, known, options)
    _emit_stale(found.states, emit)
    states = _proven(source, found.states, options)
    for warning in named(found.missing):
        emit(Warned(warning))
    unknown = [place for place in found.unknown if place.database != INTERNAL_DATABASE]
    if unknown:
        emit(Warned(named_unknown(unknown)))
    absent = [*found.absent, *found.unknown]
    if options.peek:
        return states, absent, Comparison()
    # A silent node has been waited for once; do not wait again.
    up = tuple(n for n in metastore.data_nodes if n.tcp_addr not in inventory.silent)
    answering = replace(metastore, data_nodes=up)
    states = settle(source, answering, states, known.scratch_dir, options, emit=emit)
    owners = {state.place.shard_id: state.owners for state in states}
    copies = differing_copies(source, answering, [s.place for s in states], inventory, owners)
    emit_differing(copies, emit=emit)
    return states, absent, copies


def _scan(
    metastore: Metastore,
    wanted: Sequence[ShardPlace],
    inventory: ReplicaInventory,
    known: KnownArchives,
    options: BackupOptions,
) -> _Found:
    found = _Found()
    addresses = {node.id: node.tcp_addr for node in metastore.data_nodes}
    there = groups_there(metastore, inventory.copies.keys() | inventory.broken.keys())
    now_ns = _now_ns(inventory)
    for place in wanted:
        owners = _owners(place, addresses)
        copies = tuple(c for c in inventory.copies.get(place.shard_id, ()) if c.node in owners)
        broken = inventory.broken.get(place.shard_id, {})
        silent = [node for node in owners if node in inventory.silent]
        if copies or silent or broken:
            trouble = "" if copies else _trouble(silent, broken)
            found.states.append(_state(place, copies, trouble, known, options))
            found.missing += _missing(place, owners, copies, inventory)
            continue
        archive = known.archive_of(place)
        what = absence(place, archive, group_is_there=place.group.id in there, now_ns=now_ns)
        if what == "lost" and archive is not None:
            found.states.append(_lost(place, archive, why_lost(archive, owners), known))
        elif what == "planned":
            found.absent.append(place)
        else:
            found.unknown.append(place)
    return found


def _lost(place: ShardPlace, archive: Archive, why: str, known: KnownArchives) -> ShardState:
    """A lost shard: nothing can be copied, so a whole archive counts as unchanged, with a gap."""
    if known.is_whole(archive):
        return ShardState(place, "unchanged", archive, gaps=why)
    return ShardState(place, "archive missing", archive, trouble=why)


def _owners(place: ShardPlace, addresses: dict[NodeID, str]) -> list[str]:
    return [addresses[o.node_id] for o in place.shard.owners if o.node_id in addresses]


def _now_ns(inventory: ReplicaInventory) -> int:
    """Not earlier than any time that the nodes report, in case our clock is behind."""
    described = [c.last_modified_ns or 0 for copies in inventory.copies.values() for c in copies]
    return max([time.time_ns(), *described])


def _trouble(silent: Sequence[str], broken: Mapping[str, str]) -> str:
    for node, why in broken.items():
        return f"{node} has it and cannot read it: {why}"
    # An owner that answers without the shard does not prove it empty: that owner may have been
    # down while another one took the first writes.
    return f"no node that answers has it, and {', '.join(silent)} may"


def _missing(
    place: ShardPlace,
    owners: Sequence[str],
    copies: Sequence[ShardCopy],
    inventory: ReplicaInventory,
) -> list[MissingReplica]:
    """Owners that answer and do not have the shard that another owner has."""
    if len(copies) == len(owners):
        return []
    have = tuple(copy.node for copy in copies)
    broken = inventory.broken.get(place.shard_id, {})
    without = [n for n in owners if n not in have and n not in inventory.silent and n not in broken]
    return [MissingReplica(place.shard_id, node, have) for node in without] if have else []


def _state(
    place: ShardPlace,
    copies: tuple[ShardCopy, ...],
    trouble: str,
    known: KnownArchives,
    options: BackupOptions,
) -> ShardState:
    previous = known.archive_of(place)
    times = [copy.last_modified_ns for copy in copies if copy.last_modified_ns is not None]
    modified_ns = max(times, default=None)
    noted = _noted(previous)
    reason = _reason(previous, copies, modified_ns, known, options)
    owners = noted if reason == "unchanged" else _facts_of(copies, noted)
    return ShardState(
        place,
        reason,
        previous,
        news=f"modified-{modified_ns}" if modified_ns else "",
        copies=best_first(copies, owners, options.prefer),
        modified_ns=modified_ns,
        trouble=trouble,
        owners=owners,
        gaps=_gaps(noted) if reason == "unchanged" else "",
    )


def _facts_of(copies: Sequence[ShardCopy], noted: Sequence[OwnerFacts]) -> tuple[OwnerFacts, ...]:
    return tuple(
        OwnerFacts(
            c.node, c.last_modified_ns or 0, c.size_bytes or 0, c.is_at_rest, seen_ns(c, noted)
        )
        for c in copies
    )


def _reason(
    previous: Archive | None,
    copies: Sequence[ShardCopy],
    modified_ns: int | None,
    known: KnownArchives,
    options: BackupOptions,
) -> Reason:
    if previous is None:
        return "new"
    if options.full:
        return "full"
    if not known.is_whole(previous):
        return "archive missing"
    details = previous.entry.details
    if details is None or not details.modified_ns:
        return "no evidence"
    noted_ns = details.modified_ns
    if modified_ns is not None and noted_ns < modified_ns <= noted_ns + options.staleness_ns:
        return "unchanged"
    if not details.owners:
        return _by_time_and_size(details, copies, modified_ns)
    if moved(details.owners, details.node, copies) != ():
        return "changed"
    if _never_compared(details, copies):
        return "copies differ"
    return "unchanged"


def _by_time_and_size(
    details: ShardDetails, copies: Sequence[ShardCopy], modified_ns: int | None
) -> Reason:
    """Compare with an archive of an earlier version, which has one time, and sizes of files."""
    size_bytes = sum(file.size_bytes for file in details.files)
    here = next((copy for copy in copies if copy.node == details.node), None)
    if modified_ns != details.modified_ns or here is None or here.size_bytes != size_bytes:
        return "changed"
    equal = len({copy.size_bytes for copy in copies}) == 1
    return "unchanged" if equal else "copies differ"


def _never_compared(details: ShardDetails, copies: Sequence[ShardCopy]) -> bool:
    """Whether replicas have different sizes and their points were never compared."""
    if len(copies) < 2 and copies and copies[0].node == details.node:
        return False
    holds = {owner.node: owner.holds for owner in details.owners}
    here = next((copy.size_bytes for copy in copies if copy.node == details.node), None)
    return any(copy.size_bytes != here and not holds.get(copy.node, "") for copy in copies)


def _gaps(noted: Sequence[OwnerFacts]) -> str:
    others = [owner.node for owner in noted if owner.holds == "other"]
    if not others:
        return ""
    return (
        f"{', '.join(others)} has points that its archive lacks, and lacks points that the archive "
        "has; nothing has changed since they were compared"
    )


def _proven(
    source: BackupSource, states: Sequence[ShardState], options: BackupOptions
) -> list[ShardState]:
    """Request the files where only times have moved; equal files mean unchanged."""
    asked: dict[int, list[tuple[ShardState, ShardCopy, str]]] = {}
    for at, state in enumerate(states):
        details = state.details
        if state.reason != "changed" or details is None or not details.owners:
            continue
        copies = moved(details.owners, details.node, state.copies)
        noted = {owner.node: owner for owner in details.owners}
        if copies and not _never_compared(details, state.copies):
            asked[at] = [(state, copy, noted[copy.node].files) for copy in copies]

    def same(items: list[tuple[ShardState, ShardCopy, str]]) -> bool:
        try:
            return all(
                files_of(source, copy.node, state.place.shard_id) == files
                for state, copy, files in items
            )
        except ShardkeeperError:
            return False  # the download reports what is wrong

    try:
        answers = each_in_threads(
            same, asked.values(), parallel=options.of_one_node, name="files", give_up=source.abort
        )
    finally:
        source.resume()
    proven = {at for at, answer in zip(asked, answers, strict=True) if answer}
    return [_unmoved(state) if at in proven else state for at, state in enumerate(states)]


def _unmoved(state: ShardState) -> ShardState:
    noted = _noted(state.previous)
    return replace(state, reason="unchanged", owners=noted, gaps=_gaps(noted))


def _emit_stale(states: Sequence[ShardState], emit: Emit) -> None:
    """Warn of shards that changed within `-staleness-threshold` and are not copied."""
    stale = [
        state.place.shard_id
        for state in states
        if not state.stale and state.modified_ns != _noted_ns(state.previous)
    ]
    if stale:
        ids = ", ".join(map(str, stale[:10])) + (" …" if len(stale) > 10 else "")
        emit(Warned(f"changed within -staleness-threshold, and not copied: shards {ids}"))


def _noted(previous: Archive | None) -> tuple[OwnerFacts, ...]:
    details = previous.entry.details if previous else None
    return details.owners if details else ()


def _noted_ns(previous: Archive | None) -> int | None:
    details = previous.entry.details if previous else None
    return details.modified_ns if details else None
