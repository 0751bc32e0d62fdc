"""Which shards of a cluster have changed, and from which node each is best read.

Data nodes keep when a shard was last modified: writes, deletes and compactions all move it.
A shard is unchanged if that time is the one noted when its archive was made. Making an archive
writes the node's cache to a file and so moves the time itself; therefore every copy's cache is
written out first, then the time is noted, then the archive is made.

Source: influxdb-cluster tsdb/engine/tsm1/engine.go (LastModified); influxd-ctl's documentation,
"Node selection": copies without data are passed over, the newest is read first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from resources.clients.source import Holdings, ShardCopy, Source
from resources.engine.backup.changes import Reason, ShardState
from resources.engine.backup.copies_at_rest import Comparison, differing_copies, tell_of_differing
from resources.engine.backup.known import KnownArchives
from resources.engine.events import Tell, Warned
from resources.engine.options import BackupOptions
from resources.engine.threads import each_in_threads
from resources.errors import WireError
from resources.model import Metastore, ShardPlace
from resources.repository.backup_set import Archive

FAR_FUTURE_NS = 9_214_646_400_000_000_000
"""2262-01-01: no file is newer, so asking for newer ones only writes the cache out."""


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

    Returns the states; the shards that no node has although all their owners answer, since the
    cluster plans shards ahead of time; and how copies compare, unless it only peeks.

    Raises:
        WireError: the meta nodes broke off.
    """
    for node, error in holdings.silent.items():
        hint = f" ({error.hint})" if error.hint else ""
        tell(Warned(f"data node {node} does not answer: {error.what}{hint}"))
    addresses = {node.id: node.tcp_addr for node in metastore.data_nodes}
    states: list[ShardState] = []
    absent: list[ShardPlace] = []
    for place in wanted:
        owners = [addresses.get(owner.node_id, "") for owner in place.shard.owners]
        copies = tuple(c for c in holdings.copies.get(place.shard_id, ()) if c.node in owners)
        silent = [node for node in owners if node in holdings.silent]
        if not copies and not silent:
            absent.append(place)
            continue
        states.append(_state(place, copies, silent, known, options))
    _tell_of_stale(states, tell)
    if options.peek:
        return states, absent, Comparison()
    settled = _settle(source, metastore, [state for state in states if state.copies], options)
    copies = differing_copies(source, metastore, [s.place for s in states], holdings)
    tell_of_differing(copies, tell=tell)
    return [settled.get(state.place.shard_id, state) for state in states], absent, copies


def best_first(copies: Iterable[ShardCopy], prefer: str) -> tuple[ShardCopy, ...]:
    """The preferred node's copy, then those with data, the one written last first."""
    return tuple(
        sorted(
            copies,
            key=lambda c: (c.node == prefer, bool(c.size_bytes), c.last_modified_ns or 0),
            reverse=True,
        )
    )


def _state(
    place: ShardPlace,
    copies: tuple[ShardCopy, ...],
    silent: Sequence[str],
    known: KnownArchives,
    options: BackupOptions,
) -> ShardState:
    previous = known.archive_of(place)
    modified_ns = _modified(copies)
    trouble = ""
    if not copies:
        # An owner that answers and lacks it does not prove that it is empty: it may have been
        # down while another took the first writes.
        trouble = f"no node that answers has it, and {', '.join(silent)} may"
    return ShardState(
        place,
        _reason(previous, modified_ns, known, options),
        previous,
        news=f"modified-{modified_ns}" if modified_ns else "",
        copies=best_first(copies, options.prefer),
        modified_ns=modified_ns,
        trouble=trouble,
    )


def _reason(
    previous: Archive | None, modified_ns: int | None, known: KnownArchives, options: BackupOptions
) -> Reason:
    if previous is None:
        return "new"
    if options.full:
        return "full"
    if not known.is_whole(previous):
        return "archive missing"
    noted_ns = _noted(previous)
    if not noted_ns:
        return "no evidence"
    if modified_ns is not None and noted_ns <= modified_ns <= noted_ns + options.staleness_ns:
        return "unchanged"
    return "unchanged" if noted_ns == modified_ns else "changed"


def _tell_of_stale(states: Iterable[ShardState], tell: Tell) -> None:
    """Points that are not backed up yet, because that was asked for, are no secret."""
    stale = [
        state.place.shard_id
        for state in states
        if not state.stale and state.modified_ns != _noted(state.previous)
    ]
    if stale:
        ids = ", ".join(map(str, stale[:10])) + (" …" if len(stale) > 10 else "")
        tell(Warned(f"changed within -staleness-threshold, and not copied: shards {ids}"))


def _noted(previous: Archive | None) -> int | None:
    if previous is None:
        return None
    evidence = previous.entry.evidence
    return evidence.modified_ns if evidence else previous.entry.last_modified_ns


def _modified(copies: Iterable[ShardCopy]) -> int | None:
    return max((c.last_modified_ns for c in copies if c.last_modified_ns is not None), default=None)


def _settle(
    source: Source, metastore: Metastore, states: Sequence[ShardState], options: BackupOptions
) -> dict[int, ShardState]:
    """Have caches of what will be copied written out, and note the times after that."""
    stale = [state for state in states if state.stale]
    if not stale:
        return {}
    flushes = [(state.place, copy) for state in stale for copy in state.copies]

    def flush(item: tuple[ShardPlace, ShardCopy]) -> None:
        place, copy = item
        buffer = bytearray(4096)
        with (
            suppress(WireError),  # the copy itself will tell
            source.open_shard(place.shard_id, node=copy.node, since_ns=FAR_FUTURE_NS) as stream,
        ):
            while stream.recv_into(buffer):
                pass

    try:
        each_in_threads(
            flush, flushes, parallel=options.parallel, name="flush", give_up=source.abort
        )
    finally:
        source.resume()
    later = source.holdings(metastore)
    settled: dict[int, ShardState] = {}
    for state in stale:
        nodes = {copy.node for copy in state.copies}
        copies = tuple(c for c in later.copies.get(state.place.shard_id, ()) if c.node in nodes)
        if copies:
            settled[state.place.shard_id] = replace(
                state,
                copies=best_first(copies, options.prefer),
                modified_ns=_modified(copies),
            )
    return settled
