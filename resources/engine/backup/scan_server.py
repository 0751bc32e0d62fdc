"""Which shards of a single server have changed: compare figures, and ask for newer files."""

from __future__ import annotations

from collections.abc import Sequence

from resources.clients.source import ReplicaInventory, Source
from resources.engine.backup.change_detection import (
    ShardReport,
    ShardState,
    compare_with_archive,
    probe,
    weigh,
)
from resources.engine.backup.observed import SourceState
from resources.engine.backup.written_out import sample_of
from resources.engine.options import BackupOptions
from resources.errors import (
    ArchiveCorrupt,
    PeerClosedEarly,
    PeerUnreachable,
    ShardLeftAlone,
    WireError,
)
from resources.model import ShardID, ShardPlace
from resources.repository.backup_set import Archive
from resources.repository.formats.proof import Clocks
from resources.repository.known_archives import KnownArchives
from resources.runtime.workers import each_in_threads


def scan_server(
    source: Source,
    now: SourceState,
    present: Sequence[ShardPlace],
    known: KnownArchives,
    options: BackupOptions,
) -> list[ShardState]:
    """Compare every shard with its newest archive; see `change_detection`.

    Raises:
        WireError: the server does not answer any more.
    """
    copies, clocks = now.inventory.copies, now.clocks
    decided: dict[ShardID, ShardState] = {}
    ask: list[tuple[ShardPlace, Archive]] = []
    for place in present:
        previous = known.archive_of(place)
        state = compare_with_archive(
            place,
            previous,
            copies[place.shard_id],
            full=options.full or now.facts.clock_ns is None,
            archive_there=known.is_whole(previous),
            report=ShardReport(sample_of(now.facts, place.shard_id), clocks),
        )
        if state is not None:
            decided[place.shard_id] = state
        elif previous is not None and _need_not_ask(source, place, previous, options):
            decided[place.shard_id] = ShardState(
                place, "unchanged", previous, copies=copies[place.shard_id]
            )
        elif previous is not None:
            ask.append((place, previous))
    if ask and clocks is not None:
        news = _probe_all(source, now.inventory, ask, clocks, options)
        later, _ = source.facts()
        for (place, previous), found in zip(ask, news, strict=True):
            sample = sample_of(later, place.shard_id)
            decided[place.shard_id] = weigh(place, previous, copies[place.shard_id], found, sample)
    return [decided[place.shard_id] for place in present]


def _need_not_ask(
    source: Source, place: ShardPlace, previous: Archive, options: BackupOptions
) -> bool:
    """Whether to skip the request: it would leave files at a server whose figures are unchanged.

    The backup finds deletes in a shard that already has pending ones.
    """
    details = previous.entry.details
    if not source.leftovers.expected or details is None or not details.tombstones:
        return False
    source.leftovers.with_deletes.add(place.shard_id)
    return options.peek


def _probe_all(
    source: Source,
    inventory: ReplicaInventory,
    ask: list[tuple[ShardPlace, Archive]],
    clocks: Clocks,
    options: BackupOptions,
) -> list[str]:
    def one(item: tuple[ShardPlace, Archive]) -> str:
        place, previous = item
        try:
            return probe(source, inventory.copies[place.shard_id][0], place, previous, clocks)
        except (PeerClosedEarly, ArchiveCorrupt, ShardLeftAlone):
            return "no-answer"  # the download reports what is wrong, or succeeds
        except WireError as error:
            if isinstance(error, PeerUnreachable) and not options.peek:
                return "no-answer"  # the download tries it again
            error.add_note(f"while comparing shard {place.shard_id}")
            raise

    # A thread that waits for a silent server would delay the end: `give_up` aborts it.
    try:
        return each_in_threads(
            one, ask, parallel=options.parallel, name="probe", give_up=source.abort
        )
    finally:
        source.resume()
