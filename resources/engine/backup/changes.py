"""Has a shard changed since its newest archive?

A server keeps no per-shard clock that we can ask for, so three signals are put together:

1. A backup request with `Since` lists the files that are newer than the moment before the
   archive was read, on the server's own clock. File times lag behind that clock by some
   milliseconds, so `Since` is two seconds earlier; files that are already in the archive
   (same name, size and CRC-32) do not count.
2. Deleting everything removes files and leaves none that is newer. So the number of TSM
   files, from /debug/vars, must be the number in the archive.
3. No evidence, no clock, or no archive: copy.

Source: influxdb pkg/tar/stream.go (SinceFilterTarFile), tsdb/engine/tsm1/file_store.go.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

from resources.clients.source import ShardCopy, Source
from resources.model import Metastore, ShardID, ShardPlace
from resources.protocol.server_vars import ShardStats
from resources.protocol.tar import MemberData, MemberStart, TarWalker, member_place
from resources.repository.backup_set import Archive
from resources.repository.evidence import ShardEvidence
from resources.repository.owner_facts import OwnerFacts
from resources.tsm.crc import crc32

MARGIN_NS = 2_000_000_000
"""File times come from the kernel's coarse clock, and some file systems keep whole seconds."""

Reason = Literal[
    "full", "new", "archive missing", "no evidence", "changed", "copies differ", "unchanged"
]


@dataclass(frozen=True, slots=True)
class ShardState:
    """What is known of a shard at the source, held against its newest archive."""

    place: ShardPlace
    reason: Reason
    previous: Archive | None = None
    news: str = ""
    """What the source has that the archive has not, as a digest; equal looks give equal news."""
    copies: tuple[ShardCopy, ...] = ()
    """Where to read it, best first."""
    modified_ns: int | None = None
    """When it was last modified, if its nodes keep that: a cluster's do."""
    trouble: str = ""
    """Why no copy can be read; empty if one can."""
    owners: tuple[OwnerFacts, ...] = ()
    """What a cluster's nodes say of their replicas, once their caches are written out."""
    lacks: str = ""
    """What other replicas hold and the archive does not, now or once it is made."""

    @property
    def stale(self) -> bool:
        return self.reason != "unchanged"

    @property
    def version(self) -> str:
        """A name for the shard's state: its archive's content, and what came after."""
        evidence = self.previous.entry.evidence if self.previous else None
        content = content_version(evidence) if evidence else "none"
        if self.reason == "unchanged" or (self.reason == "full" and not self.news):
            return content
        return f"{content}+{self.news or self.reason.replace(' ', '-')}"


def content_version(evidence: ShardEvidence) -> str:
    """The version of a shard that is exactly what its archive holds."""
    return evidence.content[:32]


def source_version(metastore: Metastore, shards: Mapping[ShardID, str]) -> str:
    """A name for the state of a whole server, to tell whether it has changed.

    Covers databases, policies, continuous queries and users, and the version of each shard.
    Leaves out what a server changes by itself: log positions, and shard groups that it plans
    ahead or has yet to forget.

    Args:
        shards: versions by shard; those that the metastore does not have are passed over.
    """
    known = {place.shard_id for place in metastore.places()}
    databases = [
        asdict(
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
        "users": [asdict(user) for user in metastore.users],
        "shards": sorted((i, version) for i, version in shards.items() if i in known),
    }
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:32]


def probe(source: Source, copy: ShardCopy, place: ShardPlace, evidence: ShardEvidence) -> str:
    """Ask for the files that are newer than the archive; an empty string if there are none.

    Asking makes the server write its cache of the shard to a file, so that points in memory
    count as well.

    Raises:
        WireError, ArchiveCorrupt: the reply cannot be read.
    """
    assert evidence.read_at_ns is not None  # noqa: S101 - `judge` asks only then
    known = {(file.name, file.size_bytes, file.crc32) for file in evidence.files}
    walker, buffer = TarWalker(), memoryview(bytearray(64 << 10))
    crc = 0
    since_ns = evidence.read_at_ns - MARGIN_NS
    with source.open_shard(place.shard_id, node=copy.node, since_ns=since_ns) as stream:
        while n := stream.recv_into(buffer):
            for piece in walker.feed(buffer[:n]):
                if isinstance(piece, MemberData):
                    crc = crc32(piece.data, crc)
                elif isinstance(piece, MemberStart):
                    crc = 0
                else:
                    file = member_place(piece.member.name).file
                    if (file, piece.member.size, crc) not in known:
                        first = f"{file} {piece.member.size} {crc:08x}"
                        return hashlib.sha256(first.encode()).hexdigest()[:16]
        walker.finish()
    return ""


def judge(
    place: ShardPlace,
    previous: Archive | None,
    copies: tuple[ShardCopy, ...],
    *,
    full: bool,
    archive_there: bool,
) -> ShardState | None:
    """Decide without asking the server, where that is possible; None: it must be asked."""
    if previous is None:
        return ShardState(place, "new", copies=copies)
    if full:
        return ShardState(place, "full", previous, copies=copies)
    if not archive_there:
        return ShardState(place, "archive missing", previous, copies=copies)
    evidence = previous.entry.evidence
    if evidence is None or evidence.read_at_ns is None:
        return ShardState(place, "no evidence", previous, copies=copies)
    return None


def weigh(
    place: ShardPlace,
    previous: Archive,
    copies: tuple[ShardCopy, ...],
    news: str,
    stats: ShardStats | None,
) -> ShardState:
    """Put the probe's answer and the server's file count together.

    Args:
        news: what `probe` returned.
        stats: the shard's figures, read after the probe; None if the server has none for it.
    """
    evidence = previous.entry.evidence
    assert evidence is not None  # noqa: S101 - `judge` settled the others
    if not news and stats is None:
        news = "no-figures"
    elif not news and stats is not None and stats.num_files != evidence.tsm_files:
        news = f"files-{stats.num_files}"
    return ShardState(place, "changed" if news else "unchanged", previous, news, copies)
