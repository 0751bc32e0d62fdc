"""Which shards of a cluster have changed, and from which node each is best read.

A shard is unchanged if every owner that answers says what it said when the archive was made:
when its replica was last modified, how large it is, and whether anything is in memory. A node
moves the time without a change, since a DELETE in one shard touches all shards of the database;
then the size must be the same still, and so must the files (see `replica_files`). A change that
leaves the time alone, as after a clock went back, has another size or is in memory.

Making an archive writes the node's cache to a file and so moves the time itself; therefore
every replica's cache is written out first, then what the nodes say is noted, then the archive
is made. Which replica is read: see `replicas`. Shards that are nowhere: see `absent`.

Source: influxdb-cluster tsdb/engine/tsm1/engine.go (LastModified; deleteSeriesRange, whose
first FileStore.Apply moves the time of every shard); file_store.go (replace).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from resources.clients.source import Holdings, ShardCopy, Source
from resources.engine.backup.absent import (
    MissingReplica,
    absence,
    groups_there,
    named,
    named_unknown,
    why_lost,
)
from resources.engine.backup.changes import Reason, ShardState
from resources.engine.backup.copies_at_rest import Comparison, differing_copies, tell_of_differing
from resources.engine.backup.known import KnownArchives
from resources.engine.backup.replica_files import files_of
from resources.engine.backup.replicas import best_first, moved, seen_ns, settle
from resources.engine.events import Tell, Warned
from resources.engine.options import BackupOptions
from resources.engine.threads import each_in_threads
from resources.errors import ShardkeeperError
from resources.model import INTERNAL_DATABASE, Metastore, NodeID, ShardPlace
from resources.repository.backup_set import Archive
from resources.repository.evidence import ShardEvidence
from resources.repository.owner_facts import OwnerFacts


@dataclass(slots=True)
class _Found:
    """What looking found, shard by shard."""

    states: list[ShardState] = field(default_factory=list[ShardState])
    absent: list[ShardPlace] = field(default_factory=list[ShardPlace])
    unknown: list[ShardPlace] = field(default_factory=list[ShardPlace])
    missing: list[MissingReplica] = field(default_factory=list[MissingReplica])


def look_at_cluster(
    source: Source,
    metastore: Metastore,
    wanted: Sequence[ShardPlace],
    holdings: Holdings,
    known: KnownArchives,
    options: BackupOptions,
    *,
    tell: Tell,
) -> tuple[list[ShardState], list[ShardPlace], Comparison]:
    """Hold every shard against its newest archive.

    Returns the states, also of shards that were there and are gone; the shards that no node has
    and that nothing tells to have held points; and how copies compare, unless it only peeks.

    Raises:
        WireError: the meta nodes broke off.
    """
    for node, error in holdings.silent.items():
        hint = f" ({error.hint})" if error.hint else ""
        tell(Warned(f"data node {node} does not answer: {error.what}{hint}"))
    found = _look(metastore, wanted, holdings, known, options)
    _tell_of_stale(found.states, tell)
    states = _proven(source, found.states, options)
    for warning in named(found.missing):
        tell(Warned(warning))
    unknown = [place for place in found.unknown if place.database != INTERNAL_DATABASE]
    if unknown:
        tell(Warned(named_unknown(unknown)))
    absent = [*found.absent, *found.unknown]
    if options.peek:
        return states, absent, Comparison()
    # A silent node was waited for once.
    up = tuple(n for n in metastore.data_nodes if n.tcp_addr not in holdings.silent)
    answering = replace(metastore, data_nodes=up)
    states = settle(source, answering, states, known.scratch_dir, options, tell=tell)
    alike = {state.place.shard_id: state.owners for state in states}
    copies = differing_copies(source, answering, [s.place for s in states], holdings, alike)
    tell_of_differing(copies, tell=tell)
    return states, absent, copies


def _look(
    metastore: Metastore,
    wanted: Sequence[ShardPlace],
    holdings: Holdings,
    known: KnownArchives,
    options: BackupOptions,
) -> _Found:
    found = _Found()
    addresses = {node.id: node.tcp_addr for node in metastore.data_nodes}
    there = groups_there(metastore, holdings.copies.keys() | holdings.broken.keys())
    now_ns = _now_ns(holdings)
    for place in wanted:
        owners = _owners(place, addresses)
        copies = tuple(c for c in holdings.copies.get(place.shard_id, ()) if c.node in owners)
        broken = holdings.broken.get(place.shard_id, {})
        silent = [node for node in owners if node in holdings.silent]
        if copies or silent or broken:
            trouble = "" if copies else _trouble(silent, broken)
            found.states.append(_state(place, copies, trouble, known, options))
            found.missing += _missing(place, owners, copies, holdings)
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
    """There is nothing to copy, and an archive that is there is the best that there is."""
    if known.is_whole(archive):
        return ShardState(place, "unchanged", archive, lacks=why)
    return ShardState(place, "archive missing", archive, trouble=why)


def _owners(place: ShardPlace, addresses: dict[NodeID, str]) -> list[str]:
    return [addresses[o.node_id] for o in place.shard.owners if o.node_id in addresses]


def _now_ns(holdings: Holdings) -> int:
    """Not earlier than anything that the nodes tell of, should our own clock be behind."""
    told = [c.last_modified_ns or 0 for copies in holdings.copies.values() for c in copies]
    return max([time.time_ns(), *told])


def _trouble(silent: Sequence[str], broken: Mapping[str, str]) -> str:
    for node, why in broken.items():
        return f"{node} has it and cannot read it: {why}"
    # An owner that answers and lacks it does not prove that it is empty: it may have been
    # down while another took the first writes.
    return f"no node that answers has it, and {', '.join(silent)} may"


def _missing(
    place: ShardPlace, owners: Sequence[str], copies: Sequence[ShardCopy], holdings: Holdings
) -> list[MissingReplica]:
    """Owners that answer and have nothing of what another has."""
    have = tuple(copy.node for copy in copies)
    broken = holdings.broken.get(place.shard_id, {})
    lack = [n for n in owners if n not in have and n not in holdings.silent and n not in broken]
    return [MissingReplica(place.shard_id, node, have) for node in lack] if have else []


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
    owners = tuple(
        OwnerFacts(
            c.node, c.last_modified_ns or 0, c.size_bytes or 0, c.is_at_rest, seen_ns(c, noted)
        )
        for c in copies
    )
    if reason == "unchanged":
        owners = noted
    return ShardState(
        place,
        reason,
        previous,
        news=f"modified-{modified_ns}" if modified_ns else "",
        copies=best_first(copies, owners, options.prefer),
        modified_ns=modified_ns,
        trouble=trouble,
        owners=owners,
        lacks=_lacks(noted) if reason == "unchanged" else "",
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
    evidence = previous.entry.evidence
    if evidence is None or not evidence.modified_ns:
        return "no evidence"
    noted_ns = evidence.modified_ns
    if modified_ns is not None and noted_ns < modified_ns <= noted_ns + options.staleness_ns:
        return "unchanged"
    if not evidence.owners:
        return _by_time_and_size(evidence, copies, modified_ns)
    if moved(evidence.owners, evidence.node, copies) != ():
        return "changed"
    if _never_compared(evidence, copies):
        return "copies differ"
    return "unchanged"


def _by_time_and_size(
    evidence: ShardEvidence, copies: Sequence[ShardCopy], modified_ns: int | None
) -> Reason:
    """Archives of earlier versions have one time, and the sizes of files."""
    size_bytes = sum(file.size_bytes for file in evidence.files)
    here = next((copy for copy in copies if copy.node == evidence.node), None)
    if modified_ns != evidence.modified_ns or here is None or here.size_bytes != size_bytes:
        return "changed"
    alike = len({copy.size_bytes for copy in copies}) == 1
    return "unchanged" if alike else "copies differ"


def _never_compared(evidence: ShardEvidence, copies: Sequence[ShardCopy]) -> bool:
    """Whether replicas have different sizes, and nobody has looked whether their points do."""
    holds = {owner.node: owner.holds for owner in evidence.owners}
    here = next((copy.size_bytes for copy in copies if copy.node == evidence.node), None)
    return any(copy.size_bytes != here and not holds.get(copy.node, "") for copy in copies)


def _lacks(noted: Sequence[OwnerFacts]) -> str:
    others = [owner.node for owner in noted if owner.holds == "other"]
    if not others:
        return ""
    return (
        f"{', '.join(others)} has points that its archive lacks, and lacks points that the archive "
        "has; nothing has changed since they were compared"
    )


def _proven(
    source: Source, states: Sequence[ShardState], options: BackupOptions
) -> list[ShardState]:
    """Where only times have moved, ask for the files: the same ones are no change."""
    asked: dict[int, list[tuple[ShardState, ShardCopy, str]]] = {}
    for at, state in enumerate(states):
        evidence = state.previous.entry.evidence if state.previous else None
        if state.reason != "changed" or evidence is None or not evidence.owners:
            continue
        copies = moved(evidence.owners, evidence.node, state.copies)
        noted = {owner.node: owner for owner in evidence.owners}
        if copies and not _never_compared(evidence, state.copies):
            asked[at] = [(state, copy, noted[copy.node].files) for copy in copies]

    def same(items: list[tuple[ShardState, ShardCopy, str]]) -> bool:
        try:
            return all(
                files_of(source, copy.node, state.place.shard_id) == files
                for state, copy, files in items
            )
        except ShardkeeperError:
            return False  # the copy will tell what is wrong

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
    return replace(state, reason="unchanged", owners=noted, lacks=_lacks(noted))


def _tell_of_stale(states: Sequence[ShardState], tell: Tell) -> None:
    """Points that are not backed up yet, because that was asked for, are no secret."""
    stale = [
        state.place.shard_id
        for state in states
        if not state.stale and state.modified_ns != _noted_ns(state.previous)
    ]
    if stale:
        ids = ", ".join(map(str, stale[:10])) + (" …" if len(stale) > 10 else "")
        tell(Warned(f"changed within -staleness-threshold, and not copied: shards {ids}"))


def _noted(previous: Archive | None) -> tuple[OwnerFacts, ...]:
    evidence = previous.entry.evidence if previous else None
    return evidence.owners if evidence else ()


def _noted_ns(previous: Archive | None) -> int | None:
    evidence = previous.entry.evidence if previous else None
    return evidence.modified_ns if evidence else None
