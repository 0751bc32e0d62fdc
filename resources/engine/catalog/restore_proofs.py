"""Which archives a restore has read back: from the receipts beside the backups.

The receipt's format is in docs/formats.md. A receipt whose checksum does not match proves nothing,
and is passed over here; `shardkeeper verify` names it.
"""

from __future__ import annotations

from contextlib import suppress

from msgspec import Struct, field

from resources.errors import BadReply, RepositoryError
from resources.protocol.strict_json import Shape, UInt, decode_as
from resources.repository.formats.names import RECEIPT_SUFFIX, BackupName
from resources.repository.formats.self_checksum import checksum_matches
from resources.repository.repository import BackupRepository
from resources.repository.storage.record_file import MAX_RECORD_BYTES

READ_BACK = frozenset({"identical", "same points"})


class CopyShape(Shape, frozen=True):
    """A replica on the target."""

    read_back: str = field(name="readBack")


class ShardShape(Shape, frozen=True):
    """A restored shard."""

    copies: tuple[CopyShape, ...]
    sha256: str | None = None


class TargetShape(Shape, frozen=True):
    """Where a restore went."""

    address: str


class ReceiptShape(Shape, frozen=True):
    """What of a receipt counts here."""

    finished_at: UInt = field(name="finishedAt")
    target: TargetShape
    shards: tuple[ShardShape, ...]


class RestoreProof(Struct, frozen=True):
    """A restore that read every replica of a shard back and found what was sent."""

    finished_ns: int
    target: str


def restore_proofs(repository: BackupRepository) -> dict[str, RestoreProof]:
    """The newest proof of each archive, by the archive's SHA-256.

    Raises:
        RepositoryError: the directory cannot be listed.
    """
    found: dict[str, RestoreProof] = {}
    for name, size_bytes in repository.store.names().items():
        is_receipt = name.endswith(RECEIPT_SUFFIX) and BackupName.parse(name[:16])
        if not is_receipt or size_bytes > MAX_RECORD_BYTES:
            continue
        with suppress(RepositoryError, BadReply), repository.store.open(name) as source:
            add_proofs(found, source.read(size_bytes + 1), name)
    return found


def add_proofs(found: dict[str, RestoreProof], raw: bytes, name: str) -> None:
    """Note the archives that a receipt proves, unless a later one does already.

    Raises:
        BadReply: it is no receipt.
    """
    if not checksum_matches(raw):
        return
    receipt = decode_as(ReceiptShape, raw, name)
    proof = RestoreProof(receipt.finished_at, receipt.target.address)
    for shard in receipt.shards:
        known = None if shard.sha256 is None else found.get(shard.sha256)
        is_read_back = shard.copies and all(copy.read_back in READ_BACK for copy in shard.copies)
        if shard.sha256 is None or not is_read_back:
            continue
        if known is None or known.finished_ns < proof.finished_ns:
            found[shard.sha256] = proof
