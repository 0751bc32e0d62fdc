"""What a batch of a backup has to do, and what it did: the two records of it.

They are JSON of the values below. The reader checks types, and that each name in a record
belongs to this run and this batch.

Held by tests/resources/engine/backup/test_batch.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct, field

from resources.clients.source import BackupSource, SourceFacts
from resources.engine.backup.change_detection import ShardState
from resources.engine.options import BackupOptions
from resources.engine.workers.records import StoredError, decode_record, encode_record
from resources.errors import ManifestUnreadable
from resources.model import ShardID
from resources.repository.formats.manifest import ShardEntry
from resources.repository.formats.names import check_file_name
from resources.repository.formats.proof import Clocks, ProvenAgain

OutcomeKind = Literal["saved", "read again", "gone", "failed", "away"]


class BackupBatch(Struct, frozen=True):
    """Shards to copy, with all that a worker has to know of the plan."""

    states: tuple[ShardState, ...]
    options: BackupOptions
    clocks: Clocks | None = None
    first: Mapping[str, SourceFacts] = field(default_factory=dict[str, SourceFacts])
    """What the nodes reported of these shards before anything else, by address."""
    floors: Mapping[ShardID, int] = field(default_factory=dict[ShardID, int])
    """Ordering keys that those of new entries must exceed."""
    version: str = ""
    """Of the source, as it reported it."""
    suspects: Mapping[ShardID, int] = field(default_factory=dict[ShardID, int])
    """How often reading them has brought their server down."""
    beside_others: bool = False
    """Whether other processes read shards meanwhile: then a shard during whose reading a server
    went down is not read again. Its outcome is "away", so it is read alone after the others."""

    @property
    def shards(self) -> list[ShardID]:
        return [state.place.shard_id for state in self.states]

    def encode(self) -> bytes:
        """The record.

        Raises:
            BadReply: a server reported a number that no record can hold.
        """
        return encode_record(self)

    @classmethod
    def decode(cls, raw: bytes, name: str) -> BackupBatch:
        """Read a record.

        Raises:
            ManifestUnreadable, UnsafeName: it is none, or has a hostile name.
        """
        found = decode_record(raw, cls, name)
        for state in found.states:
            if state.previous is not None:
                check_file_name(state.previous.entry.file_name)
                check_file_name(state.previous.manifest_file)
        if len(set(found.shards)) != len(found.states):
            raise ManifestUnreadable(f"{name} lists a shard twice")
        return found


class ShardOutcome(Struct, frozen=True):
    """What became of one shard of a batch."""

    shard_id: ShardID
    kind: OutcomeKind
    entry: ShardEntry | None = None
    """Of one that was saved."""
    node: str = ""
    seconds: float = 0.0
    attempts: int = 0
    damaged_elsewhere: tuple[str, ...] = ()
    proven: ProvenAgain | None = None
    """Of one that was read again and equals its archive."""
    error: StoredError | None = None
    """Of one that failed, or whose nodes do not answer."""


class BatchDone(Struct, frozen=True):
    """What a batch did: one outcome for each of its shards, in the order they ended."""

    outcomes: tuple[ShardOutcome, ...]
    crashes: Mapping[ShardID, int] = field(default_factory=dict[ShardID, int])
    """How often a server went down while these shards were read."""
    crashed: Mapping[ShardID, str] = field(default_factory=dict[ShardID, str])
    """Which server."""
    left: Mapping[ShardID, int] = field(default_factory=dict[ShardID, int])
    """Directories that an old release left behind in these shards."""

    @classmethod
    def of(cls, outcomes: Sequence[ShardOutcome], source: BackupSource) -> BatchDone:
        crashes = source.crashes
        return cls(
            tuple(outcomes), dict(crashes.counts), dict(crashes.where), dict(source.leftovers.left)
        )

    def note_in(self, source: BackupSource) -> None:
        """Have a source know what another process learned of it."""
        for shard_id, times in self.crashes.items():
            if times > source.crashes.counts.get(shard_id, 0):
                source.crashes.counts[shard_id] = times
                source.crashes.where[shard_id] = self.crashed.get(shard_id, "")
        for shard_id, number in self.left.items():
            source.leftovers.left[shard_id] = max(number, source.leftovers.left.get(shard_id, 0))

    def encode(self) -> bytes:
        """The record.

        Raises:
            BadReply: a server reported a number that no record can hold.
        """
        return encode_record(self)

    @classmethod
    def decode(cls, raw: bytes, name: str, batch: BackupBatch, backup: str) -> BatchDone:
        """Read the record of a batch of `backup`.

        Raises:
            ManifestUnreadable: it is none, is of other shards, or names another run's archives.
        """
        found = decode_record(raw, cls, name)
        if sorted(one.shard_id for one in found.outcomes) != sorted(batch.shards):
            raise ManifestUnreadable(f"{name} has not one outcome for each shard of the batch")
        for one in found.outcomes:
            wanted = {"saved": one.entry, "read again": one.proven, "gone": one}
            if wanted.get(one.kind, one.error) is None:
                raise ManifestUnreadable(
                    f"{name}: shard {one.shard_id} is {one.kind} without proof"
                )
            named = f"{backup}.s{one.shard_id}.tar.gz"
            if one.entry is not None and one.entry.file_name != named:
                raise ManifestUnreadable(f"{name} names an archive that is not of this run")
        return found
