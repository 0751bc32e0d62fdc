"""What a batch of a restore has to do, and what it did: the two records of it.

They are JSON of the values below, as those of a backup (`resources.engine.backup.batch`).

Held by tests/resources/engine/restore/test_restore_batch.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from resources.engine.events import Run
from resources.engine.restore.check import ArchiveContents, CheckedArchives
from resources.engine.restore.plan import RestoreOptions, ShardRestore
from resources.engine.restore.receipt import Receipt
from resources.engine.restore.restored import RestoredShard
from resources.engine.workers.records import StoredError, decode_record, encode_record
from resources.errors import ManifestUnreadable
from resources.model import ShardID
from resources.repository.formats.names import check_file_name
from resources.repository.repository import BackupRepository


class ToFill(Struct, frozen=True):
    """A shard of the target that is there, and what comes into it."""

    restore: ShardRestore
    new_id: ShardID
    nodes: tuple[str, ...]
    """TCP addresses of those that get it, in this order."""
    begun: frozenset[str] = frozenset()
    """To which of them something may have been sent before."""
    kept: Mapping[str, Receipt] = field(default_factory=dict[str, Receipt])
    """Which of them have it already, and the proof of that."""

    @property
    def left(self) -> list[str]:
        """The nodes that it is still to be sent to."""
        return [node for node in self.nodes if node not in self.kept]

    @property
    def shard_id(self) -> ShardID:
        """Of the backup."""
        return self.restore.place.shard_id

    @property
    def size_bytes(self) -> int:
        """What is still to be sent to all of them."""
        return self.restore.archive.entry.size_bytes * len(self.left)


class ServerPlace(Struct, frozen=True, tag="server"):
    """A single server.

    Attributes:
        started_ns: when it had started, as it said before the shards were created.
        held_as: name and token of the lock that says that no other run took this one's place.
    """

    started_ns: int | None
    held_as: tuple[str, str] | None


class ClusterPlace(Struct, frozen=True, tag="cluster"):
    """A cluster.

    Attributes:
        owned: whether the shards have owners already, so that others may have written to them.
    """

    owned: bool


class RestoreBatch(Struct, frozen=True):
    """Shards to fill, with all that a worker has to know of the plan."""

    shards: tuple[ToFill, ...]
    contents: Mapping[ShardID, ArchiveContents]
    options: RestoreOptions
    place: ServerPlace | ClusterPlace
    beside_others: bool = False
    """Whether there are more batches: then a shard whose node does not answer is left for the end,
    which does not wait here."""

    def checked(self, repository: BackupRepository, run: Run) -> CheckedArchives:
        """Its archives, which the process that plans has checked."""
        return CheckedArchives(
            repository=repository, options=self.options, contents=self.contents, run=run
        )

    def encode(self) -> bytes:
        return encode_record(self)

    @classmethod
    def decode(cls, raw: bytes, name: str) -> RestoreBatch:
        """Read a record.

        Raises:
            ManifestUnreadable, UnsafeName: it is none, or has a hostile name.
        """
        found = decode_record(raw, cls, name)
        for one in found.shards:
            check_file_name(one.restore.archive.entry.file_name)
            check_file_name(one.restore.archive.manifest_file)
        ids = {one.shard_id for one in found.shards}
        if len(ids) != len(found.shards) or len({one.new_id for one in found.shards}) != len(ids):
            raise ManifestUnreadable(f"{name} lists a shard twice")
        if ids != set(found.contents):
            raise ManifestUnreadable(f"{name} has not the contents of each of its archives")
        return found


class ShardFilled(Struct, frozen=True):
    """What became of one shard of a batch."""

    shard_id: ShardID
    """Of the backup."""
    receipts: Mapping[str, Receipt]
    """By node, as far as it was filled there."""
    seconds: float
    away: StoredError | None = None
    """Why a node did not answer, if the shard is left for the end."""

    def restored(self, item: ToFill) -> RestoredShard:
        """The shard, in its place on every node."""
        receipts = tuple(self.receipts[node] for node in item.nodes)
        return RestoredShard(item.restore, item.new_id, receipts, self.seconds)


class BatchFilled(Struct, frozen=True):
    """What a batch did: one outcome for each of its shards."""

    shards: tuple[ShardFilled, ...]

    def encode(self) -> bytes:
        return encode_record(self)

    @classmethod
    def decode(cls, raw: bytes, name: str, items: Iterable[ToFill]) -> BatchFilled:
        """Read the record of a batch of these shards.

        Raises:
            ManifestUnreadable: it is none, is of other shards, or has not all receipts.
        """
        found = decode_record(raw, cls, name)
        wanted = {item.shard_id: item for item in items}
        if sorted(one.shard_id for one in found.shards) != sorted(wanted):
            raise ManifestUnreadable(f"{name} has not one outcome for each shard of the batch")
        for one in found.shards:
            item = wanted[one.shard_id]
            proved = {node for node, receipt in one.receipts.items() if _is_of(receipt, item)}
            if proved != set(one.receipts) or not proved <= set(item.nodes):
                raise ManifestUnreadable(f"{name} has receipts of other shards")
            if one.away is None and proved != set(item.nodes):
                raise ManifestUnreadable(f"{name}: shard {one.shard_id} is filled without proof")
        return found


def _is_of(receipt: Receipt, item: ToFill) -> bool:
    return receipt.new_shard_id == item.new_id
