"""Carry a restore out: create, upload, read back, and undo everything if one step fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection

from resources.clients.server import Server
from resources.engine.events import Emit, MetaRestored, MetaRestoring, Warned
from resources.engine.restore.check import check_archives, left_out
from resources.engine.restore.filling import Filling
from resources.engine.restore.identity import identity_of
from resources.engine.restore.metastore_change import MetastoreChange
from resources.engine.restore.plan import RestoreOptions, RestorePlan, plan_restore
from resources.engine.restore.receipt import Receipts, Target
from resources.engine.restore.record import ServerJournal
from resources.engine.restore.restored import RestoreReport, noting_completion
from resources.engine.restore.rollback import roll_back, take_back_strangers
from resources.engine.restore.same_server import check_same_server
from resources.engine.restore.server_journal import keeping_journal
from resources.engine.restore.target import LIMITS_SINCE, run_queries, version_tuple
from resources.engine.restore.unfinished import Unfinished, reported
from resources.errors import ShardkeeperError, UsageError
from resources.protocol.meta import decode_metastore
from resources.repository.backup_set import BackupSet
from resources.repository.repository import BackupRepository
from resources.runtime.failpoints import passing
from resources.runtime.interrupts import interruptible, undisturbed


def prepare_restore(
    server: Server,
    repository: BackupRepository,
    backup: BackupSet,
    options: RestoreOptions,
    *,
    without: Collection[str] = (),
) -> RestorePlan:
    """Plan a restore against the target as it is now; nothing is changed.

    Args:
        without: databases that count as not there.

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
    target = server.metastore()[1].without(without)
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
    emit: Emit,
    stop: threading.Event | None = None,
    goes_on: Unfinished | None = None,
) -> RestoreReport:
    """Carry out a plan.

    Every archive is checked before the target is touched. Each shard is read back from the
    target and held against what was sent. If anything fails, the databases that this restore
    created are dropped again, and nothing else is.

    Args:
        goes_on: what a killed run of the same plan has left there, which had checked the archives.

    Raises:
        ShardkeeperError: the restore failed; its notes say whether it could be undone.
    """
    began = time.monotonic()
    stop = stop or threading.Event()
    for note in plan.notes:
        emit(Warned(note))
    receipts = Receipts(repository, plan, options, emit=emit)
    contents = check_archives(
        repository,
        plan.shards,
        keep_tombstoned=options.keep_tombstoned,
        checked_before=goes_on is not None,
        emit=emit,
        stop=stop,
    )
    version = server.about().version
    _, before = server.metastore()
    cluster_id = before.cluster_id
    check_same_server(server, [database.new_name for database in plan.databases], emit=emit)
    restoring = time.monotonic()
    emit(MetaRestoring())
    passing("restore.checked")
    now = goes_on.reported if goes_on is not None else reported(server)
    started_ns = now.started_ns if now is not None else None
    record = ServerJournal(cluster_id, server.address, started_ns, plan=identity_of(plan, options))
    kept = goes_on.kept if goes_on is not None else None
    with (
        noting_completion() as is_complete,
        undisturbed(f"taking back what was restored into {server.address}"),
        keeping_journal(repository.store, record, emit=emit, goes_on=kept) as journal,
    ):
        metastore_change = MetastoreChange(server, plan, version, contents, journal, goes_on)
        try:
            with interruptible():
                id_map = metastore_change.make()
                emit(MetaRestored(len(id_map), time.monotonic() - restoring))
                filling = Filling(
                    server, repository, id_map, contents, journal, now, options, emit, stop
                )
                shards = filling.run(plan.shards, goes_on)
                journal.check_still_ours()
                for database, ids in metastore_change.created:
                    run_queries(server, database, ids, emit=emit)
                passing("restore.before-complete")
            journal.complete()
        except BaseException as error:
            stop.set()
            server.resume()
            roll_back(server, metastore_change.created, error, journal=journal, emit=emit)
            take_back_strangers(
                server, plan, metastore_change.created, before, error, journal, emit
            )
            if isinstance(error, ShardkeeperError):
                journal.explain(error)
            raise
        is_complete.set()
        target = Target("server", server.address, version, cluster_id)
        path = receipts.keep([(shard.restore, shard.receipts) for shard in shards], target)
    seconds = time.monotonic() - began
    return RestoreReport(plan, tuple(shards), seconds, path, left_out(plan.shards, contents))
