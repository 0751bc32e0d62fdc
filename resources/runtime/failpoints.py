"""Named points at which a test can kill a process, as kill -9 or a power cut would.

    SHARDKEEPER_FAILPOINT=backup.before-commit          at the first pass
    SHARDKEEPER_FAILPOINT=backup.mid-stream:3           at the third pass
    SHARDKEEPER_FAILPOINT=backup.before-commit=STOP     stops the process, as a suspended machine
                                                        does; TERM, INT and HUP work, too

The environment is read once, so a pass without the variable costs next to nothing.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from resources.errors import UsageError, shown

VARIABLE = "SHARDKEEPER_FAILPOINT"

FAILPOINTS: Mapping[str, str] = MappingProxyType(
    {
        "store.created": "an unfinished file is there and empty",
        "store.before-fsync": "its bytes are written and not synced",
        "store.after-fsync": "its bytes are synced; it has no name yet",
        "store.before-rename": "it is closed and about to get its name",
        "store.after-rename": "it has its name; the directory is not synced",
        "store.before-replace": "a new record is about to take the place of the old one",
        "store.after-replace": "the new record is in place; the directory is not synced",
        "bucket.before-put": "an object or a record is about to be stored in a bucket",
        "bucket.after-put": "the bucket has confirmed it",
        "bucket.before-commit": "all checks are done; the manifest is about to be stored",
        "bucket.before-delete": "objects are about to be deleted from a bucket",
        "bucket.revoked": "the stage of an earlier run is revoked; its manifest may yet be stored",
        "backup.locked": "the lock is held; nothing is swept yet",
        "backup.sweeping": "one file of a dead run is swept, others may follow",
        "backup.named": "the lock names the backup that has begun",
        "backup.meta-stored": "the metastore is stored",
        "backup.batch-planned": "a batch is on record; no worker has it",
        "backup.batch-claimed": "a worker has it; nothing of it is stored",
        "backup.connected": "a shard's stream is open; no byte of it was read",
        "backup.mid-stream": "a piece of a shard's stream was read and written",
        "backup.shard-stored": "an archive is stored",
        "backup.batch-stored": "its archives are durable; that is not on record",
        "backup.batch-done": "that is on record; the worker still has the batch",
        "backup.before-commit": "everything is stored but the manifest",
        "backup.after-commit": "the manifest is stored; the lock is still held",
        "repair.set-aside": "a damaged manifest or copy has another name; it is not written again",
        "repair.all-aside": "damaged archives have other names; that is not written down yet",
        "restore.checked": "the archives are checked; the target is untouched",
        "restore.after-metadata": "a database is created on the target; its shards are empty",
        "restore.mid-upload": "a piece of an archive was sent",
        "restore.uploaded": "an archive was sent; it is not read back yet",
        "restore.read-back": "a shard was read back and is what was sent",
        "restore.before-complete": "all is sent and read back; the record does not have it yet",
        "restore.before-rollback": "a restore has failed; nothing is undone yet",
        "restore.after-rollback": "one of the databases that it made is dropped again",
        "merge.noted": "the journal of a merge names its temporary database, which is not there",
        "merge.restored": "the temporary database is restored; nothing is copied from it",
        "merge.copied": "points were copied by statements; they are not read back yet",
        "merge.lines-written": "some points were written from an archive, others may follow",
        "merge.found": "every point was found; the journal does not have it yet",
        "merge.before-drop": "the journal has it; the temporary database is there",
        "merge.dropped": "the temporary database is dropped; the journal is still there",
        "overwrite.kept": "what will be replaced is kept; the cluster is untouched",
        "overwrite.set": "the cluster's metastore is the backup's",
        "cluster.before-journal": "what will be created is planned and not written down",
        "cluster.after-journal": "it is written down; the cluster is untouched",
        "cluster.before-setting": "the last check is done; the metastore is about to be set",
        "cluster.commanded": "single commands have made shards; the record does not list them",
        "cluster.after-metadata": "the databases are there; no data node has their shards",
        "cluster.shards-created": "the data nodes have the shards, without points",
        "cluster.before-adoption": "every replica is proved; no shard has owners",
        "cluster.mid-adoption": "a replica has an owner, others may follow",
        "cluster.after-adoption": "every shard has its owners; the journal is still there",
        "cluster.before-rollback": "a restore has failed; nothing is undone yet",
        "cluster.mid-rollback": "the databases are dropped; replicas are on the data nodes",
        "cluster.after-rollback": "all is undone; the journal is still there",
    }
)
"""Every failpoint, and the state of things there."""

_SIGNALS = {name: signal.Signals[f"SIG{name}"] for name in ("STOP", "TERM", "INT", "HUP")}
_passes: dict[str, int] = {}
_mutex = threading.Lock()


@cache
def _request() -> str:
    """Read the variable at the first pass, not on import: a fork may set it later."""
    return os.environ.get(VARIABLE, "")


def passing(name: str) -> None:
    """End or stop the process here if the environment names this failpoint."""
    wanted = _request()
    if not wanted:
        return
    chosen, at, number = _read(wanted)
    if name != chosen:
        return
    with _mutex:
        _passes[name] = _passes.get(name, 0) + 1
        met = _passes[name] >= at if number == signal.SIGKILL else _passes[name] == at
    if met and number == signal.SIGSTOP:
        signal.pthread_kill(threading.get_ident(), number)  # stops before the next instruction
    elif met:
        os.kill(os.getpid(), number)


def check_failpoint_request() -> None:
    """Check the variable, so that a misspelt failpoint is reported at the start.

    Raises:
        UsageError: the variable names no failpoint, or no pass.
    """
    if wanted := _request():
        _read(wanted)


def _read(wanted: str) -> tuple[str, int, signal.Signals]:
    point, equals, word = wanted.partition("=")
    number = _SIGNALS.get(word) if equals else signal.SIGKILL
    name, colon, at = point.partition(":")
    n = int(at) if at.isascii() and at.isdigit() and len(at) < 10 else 0
    if name not in FAILPOINTS or (colon and not n) or number is None:
        raise UsageError(
            f"{VARIABLE} is {shown(wanted)}, which is not a failpoint",
            hint="shardkeeper failpoints lists them; name:3 means the third pass, name=STOP a "
            "signal",
        )
    return name, n or 1, number
