"""One restore at a time: a name that the cluster's leader gives away for about a minute.

Nobody but Shardkeeper looks at it, and another leader forgets it; so it keeps two of our runs
apart, and nothing else. It cannot be given back. So that a run does not wait for the end of
the one before it, both have one number if they read one directory on one machine, and the
directory's own lock keeps those apart.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager

from resources.clients.meta import MetaClient
from resources.engine.events import LeaseAwaited, Tell, Warned
from resources.errors import Stopped, TargetBusy, WireError
from resources.model import NodeID
from resources.protocol.meta_api import Lease
from resources.repository.store import DirectoryStore, Store

NAME = "shardkeeper"
RENEW_EVERY_S = 20.0
LOST_AFTER_S = 50.0
POLL_S = 1.0
BITS = 48
LEASE_S = 60
"""How long the leader gives a name away for, unless it is configured otherwise."""


@contextmanager
def holding_lease(
    meta: MetaClient,
    store: Store,
    stop: threading.Event,
    lost: Callable[[], None],
    *,
    tell: Tell,
) -> Generator[None]:
    """Hold the name for the block; `lost` is called, from a thread, when it is another's.

    A run that was killed leaves it taken until it ends, so it is waited for as long as nobody
    renews it.

    Raises:
        TargetBusy: another run holds and renews it.
        WireError: the leader could not be asked.
        Stopped: `stop` was set.
    """
    with _number(meta, store) as ours:
        _take(meta, ours, stop, tell)
        done = threading.Event()
        thread = threading.Thread(
            target=_renew, args=(meta, ours, done, lost), name="lease", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


@contextmanager
def _number(meta: MetaClient, store: Store) -> Generator[NodeID]:
    """Who a run is to the leader; no data node has such a number."""
    if not isinstance(store, DirectoryStore):
        yield NodeID(secrets.randbits(BITS))
        return
    fd = os.open(store.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(meta) from None
        except OSError:  # a file system without locks
            yield NodeID(secrets.randbits(BITS))
            return
        status = os.fstat(fd)
        whose = (socket.gethostname(), uuid.getnode(), os.geteuid(), status.st_dev, status.st_ino)
        digest = hashlib.sha256(repr(whose).encode()).digest()
        yield NodeID(int.from_bytes(digest[: BITS // 8]))
    finally:
        os.close(fd)


def _busy(meta: MetaClient) -> TargetBusy:
    return TargetBusy(
        f"{meta.bind}: another restore into this cluster is at work",
        hint="wait until it is done, then try again",
    )


def _take(meta: MetaClient, ours: NodeID, stop: threading.Event, tell: Tell) -> None:
    first: Lease | None = None
    while (now := meta.lease(NAME, ours)).owner != ours:
        left_s = _left_s(now)
        if first is None:
            first = now
            tell(Warned(_why_wait(left_s)))
        if (now.owner, now.expiration_ns) != (first.owner, first.expiration_ns):
            raise _busy(meta)
        tell(LeaseAwaited(left_s))
        if stop.wait(POLL_S):
            raise Stopped("stopped before anything was changed")
    if first is not None:
        tell(Warned("the other restore's lease has ended; going on"))


def _left_s(lease: Lease) -> int | None:
    """Whole seconds until a lease ends; None if the leader's clock is far from ours."""
    left_ns = (lease.expiration_ns or 0) - time.time_ns()
    left_s = math.ceil(left_ns / 1_000_000_000)
    return left_s if 0 <= left_s <= LEASE_S else None


def _why_wait(left_s: int | None) -> str:
    when = "within a minute" if left_s is None else f"in {left_s} s"
    return (
        "another restore into this cluster, from another directory or machine, was at work a "
        f"moment ago or was killed; waiting for its lease, which ends {when} unless it is renewed"
    )


def _renew(meta: MetaClient, ours: NodeID, done: threading.Event, lost: Callable[[], None]) -> None:
    renewed = time.monotonic()
    while not done.wait(RENEW_EVERY_S):
        try:
            held = meta.lease(NAME, ours).owner == ours
        except WireError:
            held = time.monotonic() - renewed < LOST_AFTER_S
        else:
            renewed = time.monotonic()
        if not held:
            lost()
            return
