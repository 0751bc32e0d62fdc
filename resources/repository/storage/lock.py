"""One writer at a time: a lease on a store, kept as a small record in it.

The holder renews its record every third of the lease. Taking, renewing and releasing compare and
replace in one step (`Store.swap`), so of two who try at once one wins. A record may be taken over

- at once, if its process is dead. A pid alone says little: it is believed only for the same boot of
  the same machine and pid namespace, together with the moment its process started;
- at once, if its process runs on this machine and has not renewed it for a lease, by the one clock
  that all processes of a boot share and that cannot be set;
- else when another run has watched it for a whole lease, and it did not change.

No time of day decides anything. `expires_at` is for people, and a hint whether watching can help:
if it lies within the next lease, the run gives up at once.

A run whose parts are done by several processes, one after the other, hands its lock over
(`hand_over`): the record names no process from then on, so only watching tells whether the run is
dead, and its lease is long enough for the gaps between those processes. Each of them joins
the run's lock (`join`) and renews it meanwhile.

The holder checks whether it still has the lock (`check_still_mine`), which saves it useless work.
That it commits nothing after it has lost the lock rests on its stage, not on this check
(`resources.repository.storage.stage`).
"""

from __future__ import annotations

import getpass
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from msgspec.structs import replace

from resources.errors import (
    DraftSwept,
    LockLost,
    ManifestUnreadable,
    RepositoryLocked,
    StoreFailed,
)
from resources.repository.storage.lock_record import (
    DEFAULT_LEASE_S,
    LOCK_NAME,
    MAX_FIELD_LENGTH,
    MAX_RECORD_BYTES,
    LockRecord,
    ProcessIdentity,
    clock_ms,
)
from resources.repository.storage.record_file import RecordFile
from resources.repository.storage.store import Store
from resources.runtime.clocks import awake_s, passed_s
from resources.runtime.interrupts import interruptible, undisturbed

LEASE_VARIABLE = "SHARDKEEPER_LEASE_S"
"""Another lease in seconds, for tests of what happens after it."""
POLL_S = 0.25
LOCKS, LOCK_SUFFIX = ".shardkeeper.", ".lock"
"""How the names of all locks begin and end."""
LONGEST_GAP_S = 1.0
"""Between two looks that count as watching; a watcher that slept has seen nothing meanwhile."""
RELEASE_PATIENCE_S = 20.0
GAP_LEASE_S = 900.0
"""For a run that is handed over from process to process: what may lie between two of them."""
KEY_LENGTH = 16
"""Of the characters of a token, by which a process finds the run that it works for."""
_ROUNDS = 16


def utc_now() -> datetime:
    return datetime.now(UTC)


class StoreLock:
    """The lock on a store, held from `acquire` until `release` or the end of the block.

    Attributes:
        record: what the store says about us.
        stale: the record of a dead run that was taken over; its leftovers want sweeping.
        goes_on: whether the run goes on in other processes, so that the end of a block does not
            release the lock.
    """

    def __init__(
        self,
        store: Store,
        record: LockRecord,
        stale: LockRecord | None,
        lease_s: float,
        clock: Callable[[], datetime],
        name: str,
    ) -> None:
        self.record = record
        self.stale = stale
        self._name = name
        self.goes_on = False
        self._store = store
        self._lease = timedelta(seconds=lease_s)
        self._clock = clock
        self._renewed_s = passed_s()
        self._mutex = threading.Lock()
        self._released = threading.Event()
        self._keeper = threading.Thread(
            target=self._keep,
            args=(min(lease_s, DEFAULT_LEASE_S) / 3,),
            name="shardkeeper-lock",
            daemon=True,
        )
        self._keeper.start()

    @classmethod
    def acquire(
        cls,
        store: Store,
        *,
        command: str,
        backup: str = "",
        wait_s: float = 0.0,
        lease_s: float | None = None,
        clock: Callable[[], datetime] = utc_now,
        name: str = LOCK_NAME,
        token: str = "",
        on_wait: Callable[[LockRecord], object] = lambda _: None,
    ) -> StoreLock:
        """Take the lock, waiting for another holder for `wait_s` at most.

        A record that may be a dead run's is watched for as long as it takes to know.

        Args:
            store: the store to lock.
            command: what to show to others who meet the lock; no secrets.
            backup: the backup that is going to be made, if known already.
            wait_s: 0 refuses at once.
            lease_s: how long the lock outlives a holder that stands still.
            clock: the time now, aware.
            name: of the record; runs that may be at work side by side have different ones.
            token: tells this holder from every other; drawn if empty.
            on_wait: called once a record is watched beyond `wait_s`.

        Raises:
            RepositoryLocked: another run holds it; says who, since when and what it does.
        """
        lease_s = lease_s or usual_lease_s()
        token = token or os.urandom(16).hex()
        deadline, observed, reported = awake_s() + wait_s, ObservedLease(), False
        while True:
            with undisturbed():
                found = cls._try(store, command, backup, lease_s, clock, name, token, observed)
                if isinstance(found, StoreLock):
                    return found
                with interruptible():
                    if awake_s() >= deadline:
                        if observed.record is None or observed.record.seems_renewed(clock()):
                            raise found
                        if observed.changed:
                            raise found
                        if not reported:
                            on_wait(observed.record)
                            reported = True
                    time.sleep(POLL_S if lease_s > 1 else 0.01)

    @classmethod
    def attempt(
        cls, store: Store, observed: ObservedLease, *, command: str, name: str, token: str
    ) -> StoreLock | RepositoryLocked:
        """Take a lock if it is free or stale, without waiting; else the error names its holder.

        Args:
            observed: one object for all attempts at this lock; stale is what it has seen
                unchanged for a lease.
        """
        with undisturbed():
            lease_s = usual_lease_s()
            return cls._try(store, command, "", lease_s, utc_now, name, token, observed)

    @classmethod
    def join(
        cls, store: Store, key: str, lease_s: float, *, name: str = LOCK_NAME, command: str = ""
    ) -> StoreLock:
        """Take part in holding the lock of a run that was handed over, until `leave`.

        Args:
            key: of that run, as `hand_over` returned it.
            lease_s: of the run.
            command: what to show to others from now on; empty: the same as before.

        Raises:
            LockLost: that run is over, or another run took its place.
        """
        with undisturbed():
            found = _stored(RecordFile(store, name, max_bytes=MAX_RECORD_BYTES))
            if found is not None and found.is_shared and found.token.startswith(key):
                lock = cls(store, found, None, lease_s, utc_now, name)
                lock.goes_on = True
                if lock._renew(command=command or found.command):
                    return lock
                lock.leave()
            raise LockLost(
                "the run that this belongs to is over, or another run took its place",
                hint="run it again from its start",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.goes_on:
            self.release()

    @property
    def key(self) -> str:
        """By which other processes `join`, once it is handed over."""
        return self.record.token[:KEY_LENGTH]

    def hand_over(self, lease_s: float, command: str = "") -> str:
        """Leave the lock to the next processes of the run; returns the key to `join` by.

        Args:
            lease_s: from now on.
            command: what to show to others from now on; empty: the same as before.

        Raises:
            RepositoryLocked: the lock is not ours any more.
        """
        if not self._renew(lease_s=lease_s, command=command or self.record.command, shared=True):
            raise self.lost()
        self._stop_keeping()
        self.goes_on = True
        return self.key

    def leave(self, lease_s: float | None = None) -> None:
        """Take part no longer; the lock stays the run's.

        Args:
            lease_s: another lease, if it is not likely that the run goes on.
        """
        if self._stop_keeping():
            with suppress(StoreFailed):
                self._put(lease_s=lease_s)

    def note_backup(self, backup: str) -> None:
        """Note which backup is being made, for the run that sweeps if this one dies.

        Raises:
            RepositoryLocked: the lock is not ours any more.
        """
        if not self._renew(backup=backup):
            raise self.lost()

    @property
    def held_as(self) -> tuple[str, str]:
        """The name of its record and its token, for other processes of the run: `is_held_as`."""
        return self._name, self.record.token

    def still_mine(self) -> bool:
        """Ask the store, and start a new lease if so."""
        return self._renew()

    def check_still_mine(self) -> None:
        """To be called right before a commit: a run that slept past its lease stops here.

        Raises:
            RepositoryLocked: another run took the lock over, or someone deleted it.
        """
        if not self.still_mine():
            raise self.lost()

    def is_mine(self) -> bool:
        """Whether the store says so, without a new lease.

        Raises:
            StoreFailed: the store cannot read the record.
        """
        return self._ours() is not None

    def lost(self, outcome: str = "nothing was committed") -> LockLost:
        """The error of a run whose place was taken, and why it was."""
        still_s, lease_s = passed_s() - self._renewed_s, self._lease.total_seconds()
        why = (
            f"it stood still for {still_s:.0f} s, past its lease of {lease_s:.0f} s"
            if still_s > lease_s
            else "another run took it, or its file was deleted"
        )
        return LockLost(
            f"this run lost the repository's lock: {why}; {outcome}",
            hint="run it again; if machines sleep or disks hang often, find out why",
        )

    def release(self) -> None:
        """Give the lock up if it is still ours; more than once is fine.

        A store that fails now does not undo what was done under the lock; the record then
        stays until its lease ends or its process does.
        """
        if not self._stop_keeping():
            return  # the keeper hangs in the store, and so would we
        with self._mutex, suppress(StoreFailed):
            for _ in range(_ROUNDS):
                file = self._ours()
                if file is None or file.remove():
                    return

    def _stop_keeping(self) -> bool:
        """Renew no more; False: the last renewal does not end."""
        self._released.set()
        if self._keeper is threading.current_thread():
            return True
        self._keeper.join(RELEASE_PATIENCE_S)
        return not self._keeper.is_alive()

    @classmethod
    def _try(
        cls,
        store: Store,
        command: str,
        backup: str,
        lease_s: float,
        clock: Callable[[], datetime],
        name: str,
        token: str,
        observed: ObservedLease,
    ) -> StoreLock | RepositoryLocked:
        for _ in range(_ROUNDS):
            record = _new_record(command, backup, clock(), lease_s, token)
            file = RecordFile.absent(store, name, max_bytes=MAX_RECORD_BYTES)
            with suppress(DraftSwept):
                if file.put(record.encode()):
                    return cls(store, record, None, lease_s, clock, name)
            try:
                raw = file.read()
                if raw is None:
                    continue  # released in between
                held = LockRecord.decode(raw)
            except (ManifestUnreadable, ValueError) as error:
                observed.record = None
                return _unreadable(error, name)
            if not held.is_abandoned() and observed.observe(raw, held) <= held.lease_s:
                return _locked(held)
            # Until its leftovers are swept they stay on record, should we die as well.
            record = replace(record, backup=backup or held.backup)
            if file.put(record.encode()):
                return cls(store, record, held, lease_s, clock, name)
        return RepositoryLocked("the repository's lock changes hands all the time")

    def _keep(self, every_s: float) -> None:
        while not self._released.wait(every_s):
            with suppress(StoreFailed):  # the next round may succeed, and commits ask anyway
                if not self._renew():
                    return

    def _renew(self, **changes: Any) -> bool:
        return not self._released.is_set() and self._put(**changes)

    def _put(
        self,
        backup: str | None = None,
        lease_s: float | None = None,
        command: str | None = None,
        *,
        shared: bool = False,
    ) -> bool:
        """Write the record anew; False: it is not ours any more."""
        with self._mutex:
            if lease_s is not None:
                self._lease = timedelta(seconds=lease_s)
            for _ in range(_ROUNDS):
                file = self._ours()
                if file is None:
                    return False
                began_s = passed_s()
                record = replace(
                    self.record,
                    expires_at=self._clock() + self._lease,
                    renewed_ms=clock_ms(),
                    lease_ms=_ms(self._lease.total_seconds()),
                )
                if backup is not None:
                    record = replace(record, backup=backup)
                if command is not None:
                    record = replace(record, command=_printable(command))
                if shared:
                    record = record.shared()
                if file.put(record.encode()):
                    self.record, self._renewed_s = record, began_s
                    return True
            return self._ours() is not None  # others of the run write it all the time

    def _ours(self) -> RecordFile | None:
        """The stored record if its token is ours: a renewal that failed may still be there.

        Each caller gets an object of its own: what one thread reads must not become what another
        one replaces.
        """
        return _held_by(self._store, self._name, self.record.token)


def is_held_as(store: Store, name: str, token: str) -> bool:
    """Whether the run that took a lock has it still, without a new lease.

    Raises:
        StoreFailed: the store cannot read the record.
    """
    return _held_by(store, name, token) is not None


def _held_by(store: Store, name: str, token: str) -> RecordFile | None:
    file = RecordFile(store, name, max_bytes=MAX_RECORD_BYTES)
    found = _stored(file)
    return file if found is not None and found.token == token else None


def give_up_ended(store: Store, has_ended: Callable[[str], bool]) -> None:
    """Have the locks of runs in several steps that have ended expire at once.

    Nothing but its lease tells of such a run that it is dead, unless someone knows.

    Args:
        has_ended: whether the run that a command names has, as its orchestrator knows.

    Raises:
        StoreFailed: the store failed.
    """
    for name in store.names(LOCKS):
        if not name.endswith(LOCK_SUFFIX):
            continue
        file = RecordFile(store, name, max_bytes=MAX_RECORD_BYTES)
        held = _stored(file)
        if held is not None and held.is_shared and has_ended(held.command):
            ended = replace(held, expires_at=held.started_at, lease_ms=1, renewed_ms=0)
            file.put(ended.encode())  # who joined the run meanwhile keeps it


class ObservedLease:
    """How long this process has seen one and the same record.

    Attributes:
        record: the one that was seen last.
        changed: whether it was another one before: then its holder is alive.
    """

    def __init__(self) -> None:
        self.record: LockRecord | None = None
        self.changed = False
        self._raw = b""
        self._seen_s = 0.0
        self._polled_s = 0.0

    def observe(self, raw: bytes, record: LockRecord) -> float:
        """The seconds for which it has been watched."""
        now_s = awake_s()
        if raw == self._raw:
            self._seen_s += min(now_s - self._polled_s, LONGEST_GAP_S)
        else:
            self.changed = bool(self._raw)
            self._seen_s = 0.0
        self.record, self._raw, self._polled_s = record, raw, now_s
        return self._seen_s


def _stored(file: RecordFile) -> LockRecord | None:
    """The record that a file holds; None: none, or one that cannot be read."""
    try:
        raw = file.read()
        return None if raw is None else LockRecord.decode(raw)
    except (ManifestUnreadable, ValueError):
        return None


def _new_record(command: str, backup: str, now: datetime, lease_s: float, token: str) -> LockRecord:
    process = ProcessIdentity.mine()
    return LockRecord(
        host=socket.gethostname(),
        machine=process.machine,
        pid=process.pid,
        process_started=process.started,
        user=_user(),
        command=_printable(command),
        started_at=now.astimezone(UTC),
        expires_at=now.astimezone(UTC) + timedelta(seconds=lease_s),
        token=token,
        backup=backup,
        lease_ms=_ms(lease_s),
        renewed_ms=clock_ms(),
    )


def _printable(command: str) -> str:
    return (command if command.isprintable() else ascii(command))[:MAX_FIELD_LENGTH]


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _locked(held: LockRecord) -> RepositoryLocked:
    return RepositoryLocked(
        f"the repository is locked by {held}",
        hint="wait for that run, or stop it; if it is dead, its lock expires when it has not been "
        f"renewed for {held.lease_s:.0f} s",
    )


def _unreadable(error: Exception, name: str) -> RepositoryLocked:
    return RepositoryLocked(
        f"the repository has a lock that cannot be read: {error}",
        hint=f"make sure that no other run is at work there, then delete {name}",
    )


def usual_lease_s(usual: float = DEFAULT_LEASE_S) -> float:
    """The lease that the environment wishes for, or the usual one."""
    request = os.environ.get(LEASE_VARIABLE, "")
    try:
        return max(0.1, float(request)) if request else usual
    except ValueError:
        return usual


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        return f"uid {os.getuid()}"
