"""One writer at a time: a lease on a store, kept as a small record in it.

The holder renews its record every third of the lease. A record whose lease has ended, or
whose process is known to be dead, may be taken over, and whoever had it learns so before
it commits (`check_still_mine`). Taking, renewing and releasing compare and replace in one
step (`Store.swap`), so of two who try at once one wins.

A pid alone says little: it is believed only for the same boot of the same machine and pid
namespace, together with the moment its process started.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from resources.errors import BadReply, NameMissing, NameTaken, RepositoryLocked, StoreFailed
from resources.protocol.strict_json import decode_json, is_integer, is_object
from resources.repository.store import Store

LOCK_NAME = ".shardkeeper.lock"
DEFAULT_LEASE_S = 120.0
CLOCK_SKEW_S = 60.0
"""How much longer than its lease another machine's record counts: clocks differ."""
POLL_S = 0.25
RELEASE_PATIENCE_S = 20.0
MAX_RECORD_BYTES = 16 * 1024
MAX_FIELD_LENGTH = 1000
_ROUNDS = 16
_NOT_RUNNING = -1
_MOST = {"pid": 2**31, "process_started": 2**63}


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that cannot be mistaken for a later one with its number."""

    machine: str
    """This boot of this kernel and this pid namespace; empty where /proc does not tell."""
    pid: int
    started: int
    """Clock ticks after boot (proc(5), field 22 of stat)."""

    @classmethod
    def mine(cls) -> ProcessIdentity:
        return cls(_machine(), os.getpid(), _started(os.getpid()) or 0)

    def is_dead(self) -> bool:
        """Whether it certainly no longer runs; False for a process that we cannot see."""
        if not self.machine or self.machine != _machine():
            return False
        started = _started(self.pid)
        if started is not None:
            return started != self.started
        try:  # /proc may hide the processes of others
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


@dataclass(frozen=True, slots=True)
class LockRecord:
    """Who holds the lock, and until when; what `.shardkeeper.lock` says."""

    host: str
    machine: str
    pid: int
    process_started: int
    user: str
    command: str
    started_at: datetime
    expires_at: datetime
    token: str
    """Random: tells this holder from every other."""
    backup: str
    """The backup that is being made, or that a dead run left unfinished; may be empty."""

    @property
    def process(self) -> ProcessIdentity:
        return ProcessIdentity(self.machine, self.pid, self.process_started)

    def is_stale(self, now: datetime) -> bool:
        """Whether it may be taken over."""
        if self.process.is_dead():
            return True
        here = bool(self.machine) and self.machine == _machine()
        return now - self.expires_at > timedelta(seconds=0 if here else CLOCK_SKEW_S)

    def encode(self) -> bytes:
        record = asdict(self)
        for key in ("started_at", "expires_at"):
            record[key] = record[key].isoformat()
        return json.dumps(record, indent=2).encode() + b"\n"

    @classmethod
    def decode(cls, raw: bytes) -> LockRecord:
        """Read a record that may come from anywhere.

        Raises:
            ValueError: it is not one; what to do about it is the caller's business.
        """
        if len(raw) > MAX_RECORD_BYTES:
            raise ValueError(f"longer than {MAX_RECORD_BYTES} bytes")
        try:
            record = decode_json(raw, LOCK_NAME)
        except BadReply as error:
            raise ValueError(error.what) from None
        if not is_object(record) or set(record) != {field.name for field in fields(cls)}:
            raise ValueError("not the fields of a lock")
        for key, value in record.items():
            if key in _MOST:
                if not is_integer(value) or not 0 <= value < _MOST[key]:
                    raise ValueError(f"{key} is no process's")
            elif not (isinstance(value, str) and len(value) <= MAX_FIELD_LENGTH):
                raise ValueError(f"{key} is no short text")
            elif not value.isprintable():
                raise ValueError(f"{key} cannot be printed")
        for key in ("started_at", "expires_at"):
            try:
                at = datetime.fromisoformat(record[key])
                record[key] = at.astimezone(UTC)
            except OverflowError:
                raise ValueError(f"{key} is no time") from None
            if at.tzinfo is None:
                raise ValueError(f"{key} has no zone")
        return cls(**record)

    def __str__(self) -> str:
        at = f"{self.started_at:%Y-%m-%d %H:%M:%S} UTC"
        doing = f", making backup {self.backup}" if self.backup else ""
        return f"{self.user}@{self.host} (pid {self.pid}: {self.command}) since {at}{doing}"


class StoreLock:
    """The lock on a store, held from `acquire` until `release` or the end of the block.

    Attributes:
        record: what the store says about us.
        stale: the record of a dead run that was taken over; its leftovers want sweeping.
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
        self._store = store
        self._lease = timedelta(seconds=lease_s)
        self._clock = clock
        self._mutex = threading.Lock()
        self._released = threading.Event()
        self._keeper = threading.Thread(
            target=self._keep, args=(lease_s / 3,), name="shardkeeper-lock", daemon=True
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
        lease_s: float = DEFAULT_LEASE_S,
        clock: Callable[[], datetime] = utc_now,
        name: str = LOCK_NAME,
    ) -> StoreLock:
        """Take the lock, waiting for another holder for `wait_s` at most.

        Args:
            store: the store to lock.
            command: what to show to others who meet the lock; no secrets.
            backup: the backup that is going to be made, if known already.
            wait_s: 0 refuses at once.
            lease_s: how long the lock outlives a holder that stands still.
            clock: the time now, aware.
            name: of the record; runs that may be at work side by side have different ones.

        Raises:
            RepositoryLocked: another run holds it; says who, since when and what it does.
        """
        deadline = time.monotonic() + wait_s
        while True:
            found = cls._try(store, command, backup, lease_s, clock, name)
            if isinstance(found, StoreLock):
                return found
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise found
            time.sleep(min(POLL_S, left_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def note_backup(self, backup: str) -> None:
        """Write down which backup is being made, for whoever has to sweep after us.

        Raises:
            RepositoryLocked: the lock is not ours any more.
        """
        if not self._renew(backup=backup):
            raise self._lost()

    def still_mine(self) -> bool:
        """Ask the store, and start a new lease if so."""
        return self._renew()

    def check_still_mine(self) -> None:
        """To be called right before a commit: a run that slept past its lease stops here.

        Raises:
            RepositoryLocked: another run took the lock over, or someone deleted it.
        """
        if not self.still_mine():
            raise self._lost()

    def release(self) -> None:
        """Give the lock up if it is still ours; more than once is fine.

        A store that fails now does not undo what was done under the lock; the record then
        stays until its lease ends or its process does.
        """
        self._released.set()
        if self._keeper is not threading.current_thread():
            self._keeper.join(RELEASE_PATIENCE_S)
            if self._keeper.is_alive():
                return  # it hangs in the store, and so would we
        with self._mutex, suppress(StoreFailed):
            raw = self._ours()
            if raw is not None:
                self._store.swap(self._name, raw, None)

    @classmethod
    def _try(
        cls,
        store: Store,
        command: str,
        backup: str,
        lease_s: float,
        clock: Callable[[], datetime],
        name: str,
    ) -> StoreLock | RepositoryLocked:
        for _ in range(_ROUNDS):
            now = clock()
            record = _new_record(command, backup, now, now + timedelta(seconds=lease_s))
            with suppress(NameTaken):
                with store.create(name) as sink:
                    sink.write(record.encode())
                return cls(store, record, None, lease_s, clock, name)
            try:
                raw = _read(store, name)
                held = LockRecord.decode(raw)
            except NameMissing:
                continue  # released in between
            except ValueError as error:
                return _unreadable(error, name)
            if not held.is_stale(now):
                return _locked(held)
            # Until its leftovers are swept they stay on record, should we die as well.
            record = replace(record, backup=backup or held.backup)
            if store.swap(name, raw, record.encode()):
                return cls(store, record, held, lease_s, clock, name)
        return RepositoryLocked("the repository's lock changes hands all the time")

    def _keep(self, every_s: float) -> None:
        while not self._released.wait(every_s):
            with suppress(StoreFailed):  # the next round may succeed, and commits ask anyway
                if not self._renew():
                    return

    def _renew(self, backup: str | None = None) -> bool:
        with self._mutex:
            if self._released.is_set():
                return False
            raw = self._ours()
            if raw is None:
                return False
            record = replace(self.record, expires_at=self._clock() + self._lease)
            if backup is not None:
                record = replace(record, backup=backup)
            if not self._store.swap(self._name, raw, record.encode()):
                return False
            self.record = record
            return True

    def _ours(self) -> bytes | None:
        """The stored record if its token is ours: a renewal that failed may still be there."""
        try:
            raw = _read(self._store, self._name)
            return raw if LockRecord.decode(raw).token == self.record.token else None
        except (NameMissing, ValueError):
            return None

    def _lost(self) -> RepositoryLocked:
        return RepositoryLocked(
            "this run lost the repository's lock, probably because it stood still past its lease "
            f"of {self._lease.total_seconds():.0f} s; nothing was committed",
            hint="run it again; if machines sleep or disks hang often, find out why",
        )


def _new_record(command: str, backup: str, now: datetime, expires_at: datetime) -> LockRecord:
    process = ProcessIdentity.mine()
    command = command if command.isprintable() else ascii(command)
    return LockRecord(
        host=socket.gethostname(),
        machine=process.machine,
        pid=process.pid,
        process_started=process.started,
        user=_user(),
        command=command[:MAX_FIELD_LENGTH],
        started_at=now.astimezone(UTC),
        expires_at=expires_at.astimezone(UTC),
        token=secrets.token_hex(16),
        backup=backup,
    )


def _read(store: Store, name: str) -> bytes:
    with store.open(name) as source:
        return source.read(MAX_RECORD_BYTES + 1)


def _locked(held: LockRecord) -> RepositoryLocked:
    until = f"{held.expires_at:%H:%M:%S} UTC"
    return RepositoryLocked(
        f"the repository is locked by {held}",
        hint=f"wait for that run, or stop it; if it is dead, its lock falls soon after {until}",
    )


def _unreadable(error: ValueError, name: str) -> RepositoryLocked:
    return RepositoryLocked(
        f"the repository has a lock that cannot be read: {error}",
        hint=f"make sure that no other run is at work there, then delete {name}",
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        return f"uid {os.getuid()}"


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """When a process started, in ticks after boot; None if /proc does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name in parentheses may hold anything, parentheses and spaces too.
    state, *rest = stat.rpartition(")")[2].split()
    return _NOT_RUNNING if state in "ZXx" else int(rest[18])
