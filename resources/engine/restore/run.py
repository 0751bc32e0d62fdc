"""Carry a restore out: create, upload, read back, and undo everything if one step fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from resources.clients.server import Server
from resources.engine.events import (
    MetaRestored,
    MetaRestoring,
    Progress,
    ShardRestored,
    Tell,
    Warned,
)
from resources.engine.restore.check import ArchiveContents, check_archives, left_out
from resources.engine.restore.doors import check_doors
from resources.engine.restore.journal import (
    CreatedDatabase,
    JournalWriter,
    ServerJournal,
    keeping_journal,
)
from resources.engine.restore.leftovers import shape
from resources.engine.restore.plan import (
    DatabaseRestore,
    RestoreOptions,
    RestorePlan,
    ShardRestore,
    plan_restore,
)
from resources.engine.restore.receipt import NOT_READ_BACK, Receipt, Receipts, Target
from resources.engine.restore.rollback import roll_back, take_back_strangers
from resources.engine.restore.target import (
    LIMITS_SINCE,
    create_database,
    run_queries,
    version_tuple,
)
from resources.engine.restore.upload import Uploader
from resources.engine.restore.uploading import upload_all
from resources.errors import (
    LockLost,
    PeerRefused,
    PlanError,
    RestorePartial,
    ShardkeeperError,
    UsageError,
    WireError,
)
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
    left_out: tuple[str, ...] = ()
    """What was damaged at the source, a line for each shard."""

    def check_complete(self) -> None:
        """Raise RestorePartial if something was damaged at the source, and so left out."""
        for first in self.left_out:
            more = f" (and {len(self.left_out) - 1} more)" if len(self.left_out) > 1 else ""
            raise RestorePartial(
                f"everything else is restored, and read back: {first}{more}",
                hint="what is left out is in the archives still, byte for byte as it came",
            )

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
    _, before = server.metastore()
    cluster_id = before.cluster_id
    check_doors(server, [database.new_name for database in plan.databases], tell=tell)
    restoring = time.monotonic()
    tell(MetaRestoring())
    passing("restore.checked")
    record = ServerJournal(cluster_id, server.address, _started_ns(server))
    with (
        noting_completion() as is_complete,
        undisturbed(f"taking back what was restored into {server.address}"),
        keeping_journal(repository.store, record, tell=tell) as journal,
    ):
        making = _Making(server, plan, version, contents, journal)
        try:
            with interruptible():
                id_map = making.make()
                tell(MetaRestored(len(id_map), time.monotonic() - restoring))
                shards = _upload(
                    server, repository, plan.shards, id_map, contents, options, tell, stop
                )
                journal.check_still_ours()
                for database, ids in making.created:
                    run_queries(server, database, ids, tell=tell)
                passing("restore.before-complete")
            journal.complete()
        except BaseException as error:
            stop.set()
            server.resume()
            roll_back(server, making.created, error, journal=journal, tell=tell)
            take_back_strangers(server, plan, making.created, before, error, journal, tell)
            if isinstance(error, ShardkeeperError):
                journal.explain(error)
            raise
        is_complete.set()
        target = Target("server", server.address, version, cluster_id)
        path = receipts.keep([(shard.restore, shard.receipts) for shard in shards], target)
    seconds = time.monotonic() - began
    return RestoreReport(plan, tuple(shards), seconds, path, left_out(plan.shards, contents))


@contextmanager
def noting_completion() -> Generator[threading.Event]:
    """Have an interrupt that comes once the event is set say that everything is restored."""
    is_complete = threading.Event()
    try:
        yield is_complete
    except BaseException as error:
        if is_complete.is_set() and not isinstance(error, ShardkeeperError):
            error.add_note("everything is restored all the same, and stays")
        raise


def _started_ns(server: Server) -> int | None:
    """When the server began to count what is written; None if it does not say."""
    try:
        return None if server.http is None else server.http.server_vars().started_ns
    except WireError:
        return None


class _Making:
    """Creates the databases of a plan, each on record before it may be on the server."""

    def __init__(
        self,
        server: Server,
        plan: RestorePlan,
        version: str,
        contents: Mapping[ShardID, ArchiveContents],
        journal: JournalWriter,
    ) -> None:
        self.created: list[tuple[DatabaseRestore, dict[ShardID, ShardID]]] = []
        self._server = server
        self._plan = plan
        self._version = version
        self._contents = contents
        self._journal = journal

    def make(self) -> dict[ShardID, ShardID]:
        """Which shard became which."""
        for database in self._plan.databases:
            self._create(database)
            passing("restore.after-metadata")
        return {old: new for _, ids in self.created for old, new in ids.items()}

    def _create(self, database: DatabaseRestore) -> None:
        groups = sorted({(s.new_policy, *shape(s.place.group)) for s in database.shards})
        made = CreatedDatabase(tuple(groups), None if database.shards else {})
        ids: dict[ShardID, ShardID] = {}
        self._journal.add(database.new_name, made)
        self.created.append((database, ids))
        try:
            self._journal.check_still_ours()
            create_database(self._server, self._plan.meta, database, self._version, ids)
        except (LockLost, PlanError, PeerRefused) as error:
            if not isinstance(error, PeerRefused) or database.shards:
                self.created.pop()  # nothing was changed; who has that name now keeps it
                self._journal.forget(database.new_name)
            raise
        finally:
            if ids:  # as the server said, even if what it made is not what was sent
                files = {
                    new: frozenset(f.id for f in self._contents[old].files)
                    for old, new in ids.items()
                }
                self._journal.add(database.new_name, replace(made, shards=files))


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
