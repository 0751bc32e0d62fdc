"""Replace a cluster's metastore by a backup's (`-meta-only-overwrite-force`).

The replacement is one command, so it happens or it does not. The replaced metastore is stored
beside the backups, synced before the command is sent. Once the command may have been sent, that
file stays, whatever fails, and every message names it. It can be put back in the same way.

Held by tests/wire/test_overwrite.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from msgspec import Struct

from resources.clients.cluster import Cluster
from resources.engine.cluster.atomic_commit import WasSet, make_good, set_metastore
from resources.engine.cluster.incremental_commit import wait_until_quiet
from resources.engine.cluster.metastore_reading import MetastoreReading, confirmed_reading
from resources.engine.cluster.preconditions import bring_index_up, warn_of_lost_updates
from resources.engine.cluster.rollback import undo_interrupted
from resources.engine.cluster.target_plan import ClusterChange, same_but_for_time
from resources.engine.events import MetaReplaced, MetaRestored, MetaRestoring, Run, Warned
from resources.engine.overwrite.overwrite_plan import OnDisk, Overwrite, plan_overwrite
from resources.engine.restore.lease import holding_lease
from resources.errors import (
    BadReply,
    ManifestUnreadable,
    NameTaken,
    PlanError,
    RestoreFailed,
    StoreFailed,
)
from resources.model import INTERNAL_DATABASE, Metastore
from resources.protocol.meta import PortableData, decode_metastore
from resources.protocol.snapshotter import MAX_META_BYTES
from resources.repository.formats.names import BackupName
from resources.repository.repository import BackupRepository
from resources.repository.storage.opening import open_store
from resources.repository.storage.places import beside, is_bucket, local_path, split
from resources.runtime.failpoints import passing
from resources.runtime.interrupts import interruptible, undisturbed

TRIES = 10
"""Attempts, if the metastore changes right before it is set."""
SUFFIX = ".replaced.meta"


class OverwriteReport(Struct, frozen=True):
    """The result of a replacement.

    Attributes:
        replaced: path of the file with the replaced metastore; empty if the cluster already
            had the backup's.
    """

    plan: Overwrite
    replaced: str
    seconds: float


def read_meta_file(path: str) -> bytes:
    """The `Data` in a `.meta` file of a backup, or in a file with a replaced metastore.

    Raises:
        ManifestUnreadable: it cannot be read, or is not such a file.
    """
    try:
        meta = PortableData.decode(_meta_bytes(path)).meta
        decode_metastore(meta)
    except OSError as error:
        raise ManifestUnreadable(f"{path}: {error.strerror}") from None
    except BadReply as error:
        raise ManifestUnreadable(
            f"{path}: {error.what}",
            hint="-meta-only-overwrite-force takes a directory of backups, with -full a manifest, "
            f"or a file whose name ends with {SUFFIX}",
        ) from None
    return meta


def _meta_bytes(path: str) -> bytes:
    if not is_bucket(path):
        with local_path(path).open("rb") as file:
            return file.read(MAX_META_BYTES + 1)
    place, name = split(path)
    with open_store(place).open(name) as source:
        return source.read(MAX_META_BYTES + 1)


def prepare_overwrite(
    cluster: Cluster, backup: bytes, *, skip_expired: bool, before: MetastoreReading | None = None
) -> Overwrite:
    """Plan against the cluster as it is now, or as `before` has it; nothing is changed.

    Raises:
        WireError: a data node or the leader does not answer.
        ShardkeeperError: as `plan_overwrite`.
    """
    raw, now = (before.raw, before.metastore) if before else cluster.metastore()
    inventory = cluster.inventory(now)
    for error in inventory.silent.values():
        error.add_note("all data nodes must be up, to report which shards they have")
        raise error
    on_disk: OnDisk = {
        shard_id: [copy.node for copy in copies] for shard_id, copies in inventory.copies.items()
    }
    return plan_overwrite(
        backup,
        raw,
        on_disk,
        now_ns=time.time_ns(),
        skip_expired=skip_expired,
        target_name=cluster.address,
    )


def overwrite(
    cluster: Cluster,
    repository: BackupRepository,
    backup: bytes,
    *,
    skip_expired: bool,
    run: Run,
) -> OverwriteReport:
    """Replace a cluster's metastore.

    Args:
        repository: the place for the replaced metastore.
        backup: a serialized `Data`.

    Raises:
        RestoreFailed: another client changed it at the same moment.
        UnknownOutcome: it is not known whether it is replaced.
        ShardkeeperError: it is not replaced.
    """
    began = time.monotonic()
    undo_interrupted(cluster, repository, run)
    for note in prepare_overwrite(cluster, backup, skip_expired=skip_expired).notes:
        run.emit(Warned(note))
    run.emit(MetaRestoring())
    with holding_lease(cluster.meta, repository.store, run):
        plan, name = _replace(cluster, repository, backup, skip_expired, run)
    run.emit(MetaRestored(len(plan.shards), time.monotonic() - began))
    path = beside(repository.location, name) if name else ""
    if path:
        run.emit(MetaReplaced(path))
    return OverwriteReport(plan, path, time.monotonic() - began)


def _replace(
    cluster: Cluster,
    repository: BackupRepository,
    backup: bytes,
    skip_expired: bool,
    run: Run,
) -> tuple[Overwrite, str]:
    """Returns the plan, and the name of the replaced metastore's file, if it was replaced."""
    for _ in range(TRIES):
        wait_until_quiet(cluster, run.stop)
        before = confirmed_reading(cluster, at_least=bring_index_up(cluster), stop=run.stop)
        plan = prepare_overwrite(cluster, backup, skip_expired=skip_expired, before=before)
        if same_but_for_time(plan.before, plan.after):
            return plan, ""
        with _kept_once_sent(repository, before) as (name, sending):
            passing("overwrite.kept")
            with undisturbed("putting back what others changed meanwhile"):
                was = set_metastore(
                    cluster,
                    before,
                    plan.meta,
                    is_set=lambda seen, plan=plan: _is_set(seen.metastore, plan),
                    sending=sending,
                    stop=run.stop,
                )
                if was is not None:
                    passing("overwrite.set")
                    _check_result(cluster, repository, plan, was, run)
                    return plan, name
        repository.store.delete(name)
    raise PlanError(
        "another client changes the cluster's metastore each time before it is set",
        hint="stop what creates databases, users or policies",
    )


@contextmanager
def _kept_once_sent(
    repository: BackupRepository, before: MetastoreReading
) -> Generator[tuple[str, Callable[[], None]]]:
    """Store the metastore to be replaced; an error after the command was sent names the file.

    Yields the file's name, and a callback to call right before the command is sent.
    """
    sent: list[bool] = []
    with undisturbed("putting the kept metastore away"):
        name = _keep(repository, before)
        try:
            with interruptible():
                yield name, lambda: sent.append(True)
        except BaseException as error:
            if not sent:
                repository.store.delete(name)
                raise
            path = beside(repository.location, name)
            error.add_note(
                f"the metastore as it was before is kept in {path}; if it was replaced, "
                f"restore -meta-only-overwrite-force {path} puts it back"
            )
            raise


def _keep(repository: BackupRepository, reading: MetastoreReading) -> str:
    """Store the metastore to be replaced; returns the name of the file.

    Raises:
        StoreFailed: it cannot be stored, so it must not be replaced.
    """
    raw = PortableData(reading.raw, reading.metastore.max_node_id).encode()
    name = BackupName.of(repository.clock())
    while True:
        try:
            with repository.store.create(f"{name}{SUFFIX}") as sink:
                sink.write(raw)
        except NameTaken:
            name = name.next()
        except StoreFailed as error:
            error.add_note("the metastore that is replaced would be kept there")
            raise
        else:
            return f"{name}{SUFFIX}"


def _is_set(now: Metastore, plan: Overwrite) -> bool:
    """Whether a metastore equals the planned one; `_internal` is left out, as it changes itself."""
    return _without_internal(now) == _without_internal(plan.after)


def _without_internal(metastore: Metastore) -> tuple[object, ...]:
    databases = tuple(db for db in metastore.databases if db.name != INTERNAL_DATABASE)
    return databases, metastore.users


def _check_result(
    cluster: Cluster,
    repository: BackupRepository,
    plan: Overwrite,
    was: WasSet,
    run: Run,
) -> None:
    """Verify that the metastore is as set, and that no other client's change was lost.

    Raises:
        RestoreFailed: another client has changed it since.
        WireError: the cluster does not answer.
    """
    if was.undone is not None:
        path = beside(repository.location, _keep(repository, was.undone))
        run.emit(Warned(f"the metastore with what others changed last before it was set: {path}"))
    make_good(cluster, was, ours=(), emit=run.emit)
    if was.shown is None and not _is_set(confirmed_reading(cluster, stop=run.stop).metastore, plan):
        raise RestoreFailed(
            "the cluster's metastore is not what was set; another client changes it",
            hint="check its databases; then run the same command again, or put back the file "
            "that is kept",
        )
    change = ClusterChange(plan.before, b"", (), (), {}, kept_ids=False)
    before = {place.shard_id for place in (*plan.forgotten, *plan.shards)}
    warn_of_lost_updates(cluster, change, before, emit=run.emit)
