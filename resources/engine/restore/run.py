"""Carry a restore out: create, upload, read back, and undo everything if one step fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from resources.clients.server import Server
from resources.engine.events import (
    MetaRestored,
    MetaRestoring,
    Progress,
    ShardRestored,
    Tell,
    Warned,
)
from resources.engine.restore.check import ArchiveContents, check_archives
from resources.engine.restore.doors import check_doors
from resources.engine.restore.plan import (
    DatabaseRestore,
    RestoreOptions,
    RestorePlan,
    ShardRestore,
    plan_restore,
)
from resources.engine.restore.receipt import NOT_READ_BACK, Receipt, Receipts, Target
from resources.engine.restore.rollback import roll_back
from resources.engine.restore.target import (
    LIMITS_SINCE,
    create_database,
    run_queries,
    version_tuple,
)
from resources.engine.restore.upload import Uploader
from resources.engine.restore.uploading import upload_all
from resources.errors import PeerRefused, PlanError, UsageError
from resources.failpoints import passing
from resources.interrupts import interruptible, undisturbed
from resources.model import ShardID
from resources.protocol.meta import decode_metastore
from resources.repository.backup_set import BackupSet
from resources.repository.repository import BackupRepository


@dataclass(frozen=True, slots=True)
class RestoredShard:
    """A shard that is on the target, proved by reading every copy back."""

    restore: ShardRestore
    new_shard_id: ShardID
    receipts: tuple[Receipt, ...]
    """One for each copy; a single server has one."""
    seconds: float

    @property
    def receipt(self) -> Receipt:
        """Of the copy that was made last."""
        return self.receipts[-1]


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What a restore did."""

    plan: RestorePlan
    shards: tuple[RestoredShard, ...]
    seconds: float
    receipt_path: str = ""
    """Where the receipt is; empty if nothing was read back."""

    @property
    def bytes_transferred(self) -> int:
        """Tar bytes, as the original counts them."""
        return sum(shard.restore.archive.entry.size_bytes for shard in self.shards)


def prepare_restore(
    server: Server, repository: BackupRepository, backup: BackupSet, options: RestoreOptions
) -> RestorePlan:
    """Plan a restore against the target as it is now; nothing is changed.

    Raises:
        UsageError: also with `-users`.
        ShardkeeperError: what `plan_restore` raises, and errors of reading the backup or the
            target.
    """
    options.check()
    if options.users:
        raise UsageError(
            "-users restores into clusters only: a single server takes passwords, not hashes",
            hint="leave it out; CREATE USER makes them anew",
        )
    meta = repository.read_meta(backup)
    _, target = server.metastore()
    facts = server.about()
    return plan_restore(
        backup,
        meta,
        decode_metastore(meta),
        target,
        options,
        now_ns=facts.clock_ns or time.time_ns(),
        target_name=server.address,
        write_limits_known=not facts.version or version_tuple(facts.version) >= LIMITS_SINCE,
    )


def restore(
    server: Server,
    repository: BackupRepository,
    plan: RestorePlan,
    options: RestoreOptions,
    *,
    tell: Tell,
    stop: threading.Event | None = None,
) -> RestoreReport:
    """Carry out a plan.

    Every archive is checked before the target is touched. Each shard is read back from the
    target and held against what was sent. If anything fails, the databases that this restore
    created are dropped again, and nothing else is.

    Raises:
        ShardkeeperError: the restore failed; its notes say whether it could be undone.
    """
    began = time.monotonic()
    stop = stop or threading.Event()
    for note in plan.notes:
        tell(Warned(note))
    receipts = Receipts(repository, plan, options, tell=tell)
    contents = check_archives(
        repository,
        plan.shards,
        keep_tombstoned=options.keep_tombstoned,
        tell=tell,
        stop=stop,
    )
    version = server.about().version
    target = Target("server", server.address, version, server.metastore()[1].cluster_id)
    check_doors(server, [database.new_name for database in plan.databases], tell=tell)
    created: list[tuple[DatabaseRestore, dict[ShardID, ShardID]]] = []
    restoring = time.monotonic()
    tell(MetaRestoring())
    passing("restore.checked")
    with undisturbed(f"taking back what was restored into {server.address}"):
        try:
            with interruptible():
                for database in plan.databases:
                    _create(server, plan, database, version, created)
                mapped = sum(len(ids) for _, ids in created)
                tell(MetaRestored(mapped, time.monotonic() - restoring))
                id_map = {old: new for _, ids in created for old, new in ids.items()}
                shards = _upload(
                    server, repository, plan.shards, id_map, contents, options, tell, stop
                )
                for database, ids in created:
                    run_queries(server, database, ids, tell=tell)
        except BaseException as error:
            stop.set()
            server.resume()
            roll_back(server, created, error, tell=tell)
            raise
        path = receipts.keep([(shard.restore, shard.receipts) for shard in shards], target)
    return RestoreReport(plan, tuple(shards), time.monotonic() - began, path)


def _create(
    server: Server,
    plan: RestorePlan,
    database: DatabaseRestore,
    version: str,
    created: list[tuple[DatabaseRestore, dict[ShardID, ShardID]]],
) -> None:
    """Create one database; it is in `created` before it may be on the server."""
    ids: dict[ShardID, ShardID] = {}
    created.append((database, ids))
    try:
        ids.update(create_database(server, plan.meta, database, version))
    except (PlanError, PeerRefused) as error:
        if isinstance(error, PlanError) or database.shards:
            created.pop()  # nothing was changed; who has that name now keeps it
        raise
    passing("restore.after-metadata")


def _upload(
    server: Server,
    repository: BackupRepository,
    shards: Sequence[ShardRestore],
    id_map: dict[ShardID, ShardID],
    contents: dict[ShardID, ArchiveContents],
    options: RestoreOptions,
    tell: Tell,
    stop: threading.Event,
) -> list[RestoredShard]:
    uploader = Uploader(
        server,
        repository,
        id_map,
        contents,
        stop,
        receipts=options.receipts,
        keep_tombstoned=options.keep_tombstoned,
    )

    def send(shard: ShardRestore) -> RestoredShard:
        receipt, seconds = uploader.upload(shard)
        return RestoredShard(shard, id_map[shard.place.shard_id], (receipt,), seconds)

    return upload_all(
        send,
        shards,
        abort=server.abort,
        parallel=options.parallel,
        stop=stop,
        progress=lambda done: Progress(done, len(shards), uploader.bytes_done),
        event=lambda _, restored: _event(server, restored),
        tell=tell,
    )


def _event(server: Server, restored: RestoredShard) -> ShardRestored:
    place = restored.restore.place
    return ShardRestored(
        database=place.database,
        policy=place.policy,
        shard_id=place.shard_id,
        new_shard_id=restored.new_shard_id,
        nodes=(server.address,),
        size_bytes=restored.restore.archive.entry.size_bytes,
        seconds=restored.seconds,
        read_back=restored.receipt.how != NOT_READ_BACK,
    )
