"""The proof that a restore leaves beside the backups: what each copy on the target holds.

Layout: docs/formats.md, "Receipt". It has a self-checksum
(`resources.repository.formats.self_checksum`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from resources.engine.events import Emit, ReceiptStored, Warned
from resources.engine.restore.plan import RestoreOptions, RestorePlan, ShardRestore
from resources.errors import ReceiptNotStored, StoreFailed, shown
from resources.model import ShardID
from resources.repository.formats import self_checksum
from resources.repository.formats.details import FileFacts, times
from resources.repository.formats.names import RECEIPT_SUFFIX, BackupName
from resources.repository.repository import BackupRepository
from resources.repository.storage.opening import open_store
from resources.repository.storage.record_file import RecordFile
from resources.repository.storage.store import Store
from resources.version import VERSION

FORMAT = 1
How = Literal["identical", "same points", "not read back"]
NOT_READ_BACK: How = "not read back"


class Receipt(Struct, frozen=True):
    """What one copy of a shard holds on its server, read from there.

    Attributes:
        node: TCP address of the server.
        how: "identical" if every file came back byte for byte; "same points" if the server had
            rewritten its files meanwhile, and all points were decoded and compared; "not read
            back" if that was not wanted.
        content: SHA-256 over names, sizes and CRC-32s of the files, as `ArchiveFacts.content`;
            over the points, as `content_digest`, if they were compared.
        files: those that are on the server; of what was sent, if nothing was read back.
        series, points, min_time_ns, max_time_ns: None where they are not known.
        deleted_ranges: pending deletes that were applied to what was sent.
    """

    new_shard_id: ShardID
    node: str
    how: How
    content: str
    files: tuple[FileFacts, ...]
    series: int | None
    points: int | None
    min_time_ns: int | None
    max_time_ns: int | None
    deleted_ranges: int
    seconds: float

    def encode(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "readBack": self.how,
            "content": self.content,
            "series": self.series,
            "points": self.points,
            **times(self.min_time_ns, self.max_time_ns),
            "deletedRanges": self.deleted_ranges,
            "milliseconds": round(self.seconds * 1000),
            "files": [file.encode() for file in self.files],
        }


class TargetFacts(Struct, frozen=True):
    """Where a restore went."""

    kind: Literal["server", "cluster"]
    address: str
    version: str
    cluster_id: int


def encode_receipts(
    plan: RestorePlan,
    copies: Sequence[tuple[ShardRestore, Sequence[Receipt]]],
    target: TargetFacts,
    *,
    began_ns: int,
    ended_ns: int,
) -> bytes:
    """The file: every restored shard, and its copies."""
    newest = plan.backup.newest
    document = {
        "format": FORMAT,
        "version": VERSION,
        "startedAt": began_ns,
        "finishedAt": ended_ns,
        "backup": newest.file_name,
        "meta": newest.manifest.meta.file_name,
        "target": {
            "kind": target.kind,
            "address": target.address,
            "version": target.version,
            "clusterID": target.cluster_id,
        },
        "shards": [_shard(shard, receipts) for shard, receipts in copies],
        self_checksum.KEY: self_checksum.BLANK,
    }
    return self_checksum.encode_with_checksum(document)


def _shard(shard: ShardRestore, receipts: Sequence[Receipt]) -> dict[str, Any]:
    entry = shard.archive.entry
    return {
        "database": shard.place.database,
        "policy": shard.place.policy,
        "shardID": shard.place.shard_id,
        "fileName": entry.file_name,
        "sha256": entry.details.sha256 if entry.details else None,
        "newDatabase": shard.database,
        "newPolicy": shard.policy,
        "newShardID": receipts[0].new_shard_id,
        "copies": [receipt.encode() for receipt in receipts],
    }


class Receipts:
    """The receipt of one restore, from before the target is touched until it is kept.

    It goes beside the backups, or into the working directory if the backups' directory is
    read-only. A restore whose proof could not be stored does not begin.

    Raises:
        StoreFailed: neither place can be written to.
    """

    def __init__(
        self,
        repository: BackupRepository,
        plan: RestorePlan,
        options: RestoreOptions,
        *,
        emit: Emit,
    ) -> None:
        self._wanted = options.receipts
        self._plan = plan
        self._emit = emit
        self._clock = repository.clock
        self._began_ns = time.time_ns()
        self._location, self._store = repository.location, repository.store
        if not self._wanted:
            emit(Warned("-receipts off: nothing is read back, so nothing proves what arrives"))
        else:
            self._find_free_name(self._store)

    def keep(
        self, copies: Sequence[tuple[ShardRestore, Sequence[Receipt]]], target: TargetFacts
    ) -> str:
        """Store the receipt; returns where it is, nothing if none was wanted.

        Raises:
            ReceiptNotStored: everything is restored and proved, and only this failed.
        """
        if not self._wanted:
            return ""
        raw = encode_receipts(
            self._plan, copies, target, began_ns=self._began_ns, ended_ns=time.time_ns()
        )
        try:
            path = f"{self._location.rstrip('/')}/{self._put(raw)}"
        except StoreFailed as error:
            raise ReceiptNotStored(
                "everything is restored and was read back, but the receipt could not be stored: "
                f"{error.what}",
                hint="the restored databases are there and stay; make room for the next receipt",
            ) from error
        self._emit(ReceiptStored(path, sum(len(receipts) for _, receipts in copies)))
        return path

    def _find_free_name(self, beside: Store) -> None:
        try:
            beside.check_writable()
        except StoreFailed as error:
            here = open_store(Path.cwd())
            try:
                here.check_writable()
            except StoreFailed:
                error.add_note("the receipt would be kept there, or in the working directory")
                error.hint = "run it where you can write; -receipts off does without proof"
                raise error from None
            self._emit(
                Warned(
                    f"{shown(self._location)} cannot be written to, so the receipt goes into "
                    f"{shown(str(Path.cwd()))}"
                )
            )
            self._location, self._store = str(Path.cwd()), here

    def _put(self, raw: bytes) -> str:
        name = BackupName.of(self._clock())
        while not (file := RecordFile.absent(self._store, f"{name}{RECEIPT_SUFFIX}")).put(raw):
            name = name.next()
        return file.name
