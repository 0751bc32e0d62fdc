"""Put a backup's metastore in the place of a cluster's (`-meta-only-overwrite-force`).

It is one command, so it is done or not done. What is replaced is kept beside the backups, and
can be put back in the same way.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from resources.clients.cluster import Cluster
from resources.engine.cluster.by_command import wait_until_quiet
from resources.engine.cluster.guards import (
    LOOK_EVERY_S,
    LOOKS,
    bring_index_up,
    warn_of_casualties,
    warn_of_gap,
)
from resources.engine.cluster.rollback import undo_interrupted
from resources.engine.cluster.target_plan import ClusterChange, same_but_for_time
from resources.engine.events import MetaReplaced, MetaRestored, MetaRestoring, Tell, Warned
from resources.engine.overwrite.plan import OnDisk, Overwrite, plan_overwrite
from resources.engine.restore.lease import holding_lease
from resources.errors import (
    BadReply,
    ManifestUnreadable,
    NameTaken,
    RestoreFailed,
    StoreFailed,
    UnknownOutcome,
    WireError,
)
from resources.failpoints import passing
from resources.model import INTERNAL_DATABASE, Metastore
from resources.protocol.commands import SetData
from resources.protocol.meta import PortableData, decode_metastore
from resources.protocol.snapshotter import MAX_META_BYTES
from resources.repository.names import BackupName
from resources.repository.repository import BackupRepository

SUFFIX = ".replaced.meta"


@dataclass(frozen=True, slots=True)
class OverwriteReport:
    """What was done.

    Attributes:
        replaced: path of the file with the metastore that was replaced; empty if the cluster's
            was the backup's already.
    """

    plan: Overwrite
    replaced: str
    seconds: float


def read_meta_file(path: str) -> bytes:
    """The `Data` in a `.meta` file, of a backup or one that was replaced.

    Raises:
        ManifestUnreadable: it cannot be read, or is no such file.
    """
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_META_BYTES + 1)
        meta = PortableData.decode(raw).meta
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


def prepare_overwrite(cluster: Cluster, backup: bytes, *, skip_expired: bool) -> Overwrite:
    """Plan against the cluster as it is now; nothing is changed.

    Raises:
        WireError: a data node or the leader does not answer.
        ShardkeeperError: what `plan_overwrite` raises.
    """
    raw, now = cluster.metastore()
    holdings = cluster.holdings(now)
    for error in holdings.silent.values():
        error.add_note("all data nodes must be up, to tell which shards they have")
        raise error
    on_disk: OnDisk = {
        shard_id: [copy.node for copy in copies] for shard_id, copies in holdings.copies.items()
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
    tell: Tell,
    stop: threading.Event | None = None,
) -> OverwriteReport:
    """Replace a cluster's metastore.

    Args:
        repository: where the one that is replaced is kept.
        backup: a serialized `Data`.

    Raises:
        RestoreFailed: somebody else changed it in the same moment.
        UnknownOutcome: whether it is replaced is not known.
        ShardkeeperError: it is not replaced.
    """
    began = time.monotonic()
    stop = stop or threading.Event()
    undo_interrupted(cluster, repository, tell=tell, stop=stop)
    for note in prepare_overwrite(cluster, backup, skip_expired=skip_expired).notes:
        tell(Warned(note))
    tell(MetaRestoring())
    with holding_lease(cluster.meta, repository.store, stop, stop.set, tell=tell):
        plan, name = _replace(cluster, repository, backup, skip_expired, tell, stop)
    tell(MetaRestored(len(plan.shards), time.monotonic() - began))
    path = str(Path(repository.location) / name) if name else ""
    if path:
        tell(MetaReplaced(path))
    return OverwriteReport(plan, path, time.monotonic() - began)


def _replace(
    cluster: Cluster,
    repository: BackupRepository,
    backup: bytes,
    skip_expired: bool,
    tell: Tell,
    stop: threading.Event,
) -> tuple[Overwrite, str]:
    """Returns what was planned, and the name of what was replaced, if there was need to."""
    name = ""
    while True:
        wait_until_quiet(cluster, stop)
        bring_index_up(cluster)
        plan = prepare_overwrite(cluster, backup, skip_expired=skip_expired)
        if same_but_for_time(plan.before, plan.after):
            return plan, ""
        name = _keep(repository, plan)
        passing("overwrite.kept")
        _, now = cluster.metastore()
        if now.index == plan.before.index:
            break
        repository.store.delete(name)
    try:
        index = _set(cluster, plan, stop)
        passing("overwrite.set")
        _look(cluster, plan, index, tell=tell)
    except UnknownOutcome as error:
        error.add_note(f"the metastore as it was before is kept in {name}")
        raise
    except RestoreFailed as error:
        error.add_note(f"the metastore as it was before is kept in {name}")
        raise
    except BaseException:
        repository.store.delete(name)
        raise
    return plan, name


def _keep(repository: BackupRepository, plan: Overwrite) -> str:
    """Store what will be replaced; returns the name of the file.

    Raises:
        StoreFailed: nothing is replaced that could not be put back.
    """
    raw = PortableData(plan.live, plan.before.max_node_id).encode()
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


def _set(cluster: Cluster, plan: Overwrite, stop: threading.Event) -> int:
    """Have it set; returns its index, or 0 if nobody told it.

    Raises:
        UnknownOutcome: it may be set, or not, or will be.
        WireError, PlanError: it was not set.
    """
    try:
        return cluster.meta.execute(SetData(plan.meta))
    except UnknownOutcome as error:
        for _ in range(LOOKS):
            with suppress(WireError):
                if _is_set(cluster.metastore()[1], plan):
                    return 0
            stop.wait(LOOK_EVERY_S)
        raise error


def _is_set(now: Metastore, plan: Overwrite) -> bool:
    """Whether a metastore is what was to be set; `_internal` grows by itself."""
    return _without_internal(now) == _without_internal(plan.after)


def _without_internal(metastore: Metastore) -> tuple[object, ...]:
    databases = tuple(db for db in metastore.databases if db.name != INTERNAL_DATABASE)
    return databases, metastore.users


def _look(cluster: Cluster, plan: Overwrite, index: int, *, tell: Tell) -> None:
    """Is the metastore what was set, and was nothing lost on the way?

    Raises:
        RestoreFailed: somebody has changed it since.
        WireError
    """
    _, now = cluster.metastore()
    if not _is_set(now, plan):
        raise RestoreFailed(
            "the cluster's metastore is not what was set; somebody else changes it",
            hint="look at its databases; then run the same command again, or put back the file "
            "that is kept",
        )
    warn_of_gap(plan.before.index, index, tell=tell)
    change = ClusterChange(plan.before, b"", (), (), {}, kept_ids=False)
    before = {place.shard_id for place in (*plan.forgotten, *plan.shards)}
    warn_of_casualties(cluster, change, before, tell=tell)
