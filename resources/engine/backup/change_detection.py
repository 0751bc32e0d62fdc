"""Has a shard changed since its newest archive? And which shards of a single server have?

"Unchanged" must be proven; everything else counts as changed. A shard that may have changed is
read whole, and stored only if its files differ from those of the archive in name, size or CRC-32.
So doubt costs time and never a point. A shard is unchanged only if

1. its server's process still runs that ran when the archive was proven complete: a restart may
   find other files, with the names, sizes and times of the old ones;
2. nothing of it is in memory, and all figures are equal: the number of writes, how often files
   replaced others, the number of files and their total size; the last two also equal those of the
   archive;
3. the server's clock has advanced as ours has, so that later changes have later times;
4. a request for files that changed later lists none that the archive does not have; deletes,
   which at first change no figure, show as tombstone files.

The figures are read before and after the listing and must be equal: so the listing was not that
of a busy server, which may list nothing.

Tests: test_change_detection.py; on real servers tests/faults/histories.py.

Source: influxdb pkg/tar/stream.go (SinceFilterTarFile), tsdb/engine/tsm1/file_store.go.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from resources.clients.source import BackupSource, ReplicaInventory, ShardCopy
from resources.engine.backup.clocks import since_ns, went_alike
from resources.engine.backup.completeness import Sample, figures, fits
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
from resources.model import Metastore, ShardID, ShardPlace
from resources.protocol.tar import MemberData, MemberStart, TarWalker, member_place
from resources.repository.backup_set import Archive
from resources.repository.formats.details import ShardDetails
from resources.repository.formats.owner_facts import OwnerFacts
from resources.repository.formats.proof import Clocks
from resources.repository.known_archives import KnownArchives
from resources.runtime.workers import each_in_threads
from resources.tsm.crc import crc32

Reason = Literal[
    "full", "new", "archive missing", "no evidence", "changed", "copies differ", "unchanged"
]


class ShardState(Struct, frozen=True):
    """A shard at the source, compared with its newest archive."""

    place: ShardPlace
    reason: Reason
    previous: Archive | None = None
    news: str = ""
    """A digest of what the source has and the archive has not; equal states give equal news."""
    copies: tuple[ShardCopy, ...] = ()
    """Where to read it, best first."""
    modified_ns: int | None = None
    """When it was last modified, if its nodes report that; a cluster's do."""
    trouble: str = ""
    """Why no copy can be read; empty if one can."""
    owners: tuple[OwnerFacts, ...] = ()
    """What a cluster's nodes report of their replicas after their caches are written out."""
    gaps: str = ""
    """Points of other replicas that the archive does not hold, or will not hold."""

    @property
    def details(self) -> ShardDetails | None:
        """What was found in its newest archive; None if nothing is known."""
        return self.previous.entry.details if self.previous else None

    @property
    def stale(self) -> bool:
        return self.reason != "unchanged"

    @property
    def version(self) -> str:
        """A name for the shard's state: the content of its archive, and the changes since."""
        content = content_version(self.details) if self.details else "none"
        if self.reason == "unchanged" or (self.reason == "full" and not self.news):
            return content
        return f"{content}+{self.news or self.reason.replace(' ', '-')}"


class ShardReport(Struct, frozen=True):
    """What a server reports before it is asked for a shard's files."""

    sample: Sample | None
    """Its figures of the shard; None if it does not report enough."""
    clocks: Clocks | None
    """Its clock and ours; None if it does not report its own."""


def content_version(details: ShardDetails) -> str:
    """The version of a shard that equals its archive."""
    return details.content[:32]


def source_version(metastore: Metastore, shards: Mapping[ShardID, str]) -> str:
    """A name for the state of a whole server; it changes when the server does.

    Covers databases, policies, continuous queries and users, and the version of each shard.
    Leaves out what a server changes by itself: log positions, and shard groups that it plans
    ahead or has not removed yet.

    Args:
        shards: versions by shard; shards that the metastore does not have are skipped.
    """
    known = {place.shard_id for place in metastore.places()}
    databases = [
        to_builtins(
            replace(
                database,
                retention_policies=tuple(
                    replace(rp, shard_groups=()) for rp in database.retention_policies
                ),
            )
        )
        for database in metastore.databases
    ]
    state = {
        "cluster": metastore.cluster_id,
        "databases": databases,
        "users": to_builtins(metastore.users),
        "shards": sorted((i, version) for i, version in shards.items() if i in known),
    }
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:32]


def probe(
    source: BackupSource, copy: ShardCopy, place: ShardPlace, previous: Archive, now: Clocks
) -> str:
    """Request the files that are newer than the archive; an empty string if there are none.

    Raises:
        WireError, ArchiveCorrupt: the reply cannot be read.
    """
    details, proof = previous.entry.details, previous.proof
    assert details is not None  # noqa: S101 - `compare_with_archive` asks only then
    assert proof is not None  # noqa: S101
    known = {(file.name, file.size_bytes, file.crc32) for file in details.files}
    walker, buffer = TarWalker(), memoryview(bytearray(64 << 10))
    crc = 0
    since = since_ns(proof.clocks, now)
    with source.open_shard(place.shard_id, node=copy.node, since_ns=since) as stream:
        while n := stream.recv_into(buffer):
            for piece in walker.feed(buffer[:n]):
                if isinstance(piece, MemberData):
                    crc = crc32(piece.data, crc)
                elif isinstance(piece, MemberStart):
                    crc = 0
                else:
                    file = member_place(piece.member.name).file
                    if (file, piece.member.size, crc) not in known:
                        return _digest(f"{file} {piece.member.size} {crc:08x}")
        walker.finish()
    return ""


def compare_with_archive(
    place: ShardPlace,
    previous: Archive | None,
    copies: tuple[ShardCopy, ...],
    *,
    full: bool,
    archive_there: bool,
    report: ShardReport,
) -> ShardState | None:
    """Classify a shard without a request for its files; None if a request is needed."""
    if previous is None:
        return ShardState(place, "new", copies=copies)
    if full:
        return ShardState(place, "full", previous, copies=copies)
    if not archive_there:
        return ShardState(place, "archive missing", previous, copies=copies)
    details = previous.entry.details
    if details is None or details.read_at_ns is None or report.clocks is None:
        return ShardState(place, "no evidence", previous, copies=copies)
    doubt = _doubt(previous, report.sample, report.clocks)
    return ShardState(place, "changed", previous, doubt, copies) if doubt else None


def weigh(
    place: ShardPlace,
    previous: Archive,
    copies: tuple[ShardCopy, ...],
    news: str,
    sample: Sample | None,
) -> ShardState:
    """Combine the result of the probe with the server's figures.

    Args:
        news: what `probe` returned.
        sample: the server's figures after the probe.
    """
    news = news or _moved(previous, sample)
    return ShardState(place, "changed" if news else "unchanged", previous, news, copies)


def _doubt(previous: Archive, sample: Sample | None, clocks: Clocks) -> str:
    """Why a listing of newer files would prove nothing, as news; empty if it would prove it."""
    moved = _moved(previous, sample)
    if moved:
        return moved
    proof = previous.proof
    if proof is None or not went_alike(proof.clocks, clocks):
        return "clock-was-set"
    return ""


def _moved(previous: Archive, sample: Sample | None) -> str:
    """How a shard's figures differ from those of its archive, as news."""
    if sample is None:
        return "no-figures"
    details, proof, now = previous.entry.details, previous.proof, figures(sample)
    if details is None or proof is None:
        return f"unproven-{_digest(repr(sample))}"
    if now is None:
        return f"in-memory-{_digest(repr(sample))}"
    if now != proof.figures:
        restarted = now.started_ns != proof.figures.started_ns
        return f"{'restarted' if restarted else 'figures'}-{_digest(repr(now))}"
    if now.num_files != details.tsm_files or not fits(details.files, now.disk_bytes):
        return f"files-{now.num_files}-{now.disk_bytes}"
    return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- the shards of a single server --------------------------------------------------------------


def scan_server(
    source: BackupSource,
    now: SourceState,
    present: Sequence[ShardPlace],
    known: KnownArchives,
    options: BackupOptions,
) -> list[ShardState]:
    """Compare every shard of a single server with its newest archive.

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
    source: BackupSource, place: ShardPlace, previous: Archive, options: BackupOptions
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
    source: BackupSource,
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
