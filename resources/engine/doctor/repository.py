"""Examine the directory that backups go to."""

from __future__ import annotations

import secrets

from resources.engine.doctor.finding import Findings
from resources.errors import BackupNotFound, ShardkeeperError, counted, shown
from resources.model import Metastore
from resources.protocol.meta import decode_metastore
from resources.repository.repository import BackupRepository
from resources.repository.storage.opening import open_store
from resources.repository.storage.store import Store

RECORD = ".shardkeeper.doctor-"
LITTLE_BYTES = 2**30


def examine_repository(path: str, metastore: Metastore | None, found: Findings) -> None:
    """Can a backup be written to a directory, and which server do its backups belong to?

    Args:
        metastore: the examined server's; None if it did not answer.
    """
    store: Store | None = None
    with found.asking("directory"):
        store = open_store(path)
    if store is None:
        return
    try:
        _examine_medium(path, store, found)
        _examine_backups(path, store, metastore, found)
    finally:
        store.close()


def _examine_medium(path: str, store: Store, found: Findings) -> None:
    point = store.unmounted()
    if point:
        found.warning(
            "mount", f"nothing is mounted on {shown(point)}, as /etc/fstab says", f"mount {point}"
        )
    with found.asking("directory"):
        free = store.check_writable()
        known = "" if free is None else f", with {free / 2**30:.1f} GiB free"
        text = f"{path} can be written to{known}"
        if free is not None and free < LITTLE_BYTES:
            found.warning("directory", text, "free some space, or use another file system")
        else:
            found.ok("directory", text)
    with found.asking("locks"):
        name = RECORD + secrets.token_hex(8)
        try:
            with store.create(name) as sink:
                sink.write(b"1")
            works = store.swap(name, b"1", b"2") and not store.swap(name, b"1", b"3")
        finally:
            store.delete(name)
        if works:
            found.ok("locks", f"{path} supports them")
        else:
            found.failed(
                "locks",
                f"{path}: two runs could work there at once, since locks have no effect",
                "use a local file system, or NFS with locking (local_lock=none, nolock not set)",
            )


def _examine_backups(path: str, store: Store, metastore: Metastore | None, found: Findings) -> None:
    repository = BackupRepository(store, path)
    try:
        backups = repository.current()
    except BackupNotFound:
        found.ok("backups", f"{path} holds none yet; the first copies everything")
        return
    except ShardkeeperError as error:
        found.failed("backups", str(error), error.hint)
        return
    holds = counted(len(backups.archives), "archive")
    text = f"{path} holds {holds}, the newest of {backups.newest.file_name}"
    known: int | None = None
    try:
        known = decode_metastore(repository.read_meta(backups), groups=False).cluster_id
    except ShardkeeperError:
        details = backups.newest.manifest.details
        known = details.source.cluster_id if details else None
    if metastore is None or known is None:
        found.ok("backups", text)
    elif known != metastore.cluster_id:
        found.failed(
            "backups",
            f"{text}, of another server (its number is {known}, this one's {metastore.cluster_id})",
            "use one directory for each server; if this one was set up anew, confirm it once: "
            "backup -new-era",
        )
    else:
        found.ok("backups", f"{text}, of this server")
