"""The record that a store keeps of the holder of its lock."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

from resources.errors import BadReply
from resources.protocol.strict_json import Shape, decode_as
from resources.runtime.clocks import awake_s

LOCK_NAME = ".shardkeeper.lock"
DEFAULT_LEASE_S = 120.0
MAX_RECORD_BYTES = 16 * 1024
MAX_FIELD_LENGTH = 1000
_NOT_RUNNING = -1


class ProcessIdentity(Struct, frozen=True):
    """A process that cannot be mistaken for a later one with its number."""

    machine: str
    """This boot of this kernel and this pid namespace; empty where /proc does not tell."""
    pid: int
    started: int
    """Clock ticks after boot (proc(5), field 22 of stat)."""

    @classmethod
    def mine(cls) -> ProcessIdentity:
        return cls(_machine(), os.getpid(), _started(os.getpid()) or 0)

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The process, or thread, that has this number here; None if there is none that runs."""
        started = _started(pid)
        return None if started in (None, _NOT_RUNNING) else cls(_machine(), pid, started)

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


_Text = Annotated[str, Meta(max_length=MAX_FIELD_LENGTH)]


class _LockShape(Shape, frozen=True, forbid_unknown_fields=True):
    host: _Text
    machine: _Text
    pid: Annotated[int, Meta(ge=0, lt=2**31)]
    process_started: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    user: _Text
    command: _Text
    started_at: _Text
    expires_at: _Text
    token: _Text
    backup: _Text
    lease_ms: Annotated[int, Meta(ge=0, lt=2**40)] = 0
    renewed_ms: Annotated[int, Meta(ge=0, lt=2**60)] = 0


class LockRecord(Struct, frozen=True):
    """The holder of the lock and the end of its lease: the content of `.shardkeeper.lock`."""

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
    lease_ms: int = 0
    """How long it counts unless it is renewed; 0: an older version did not write it."""
    renewed_ms: int = 0
    """When, by the clock of the holder's machine that cannot be set; 0: not known."""

    @property
    def process(self) -> ProcessIdentity:
        return ProcessIdentity(self.machine, self.pid, self.process_started)

    @property
    def is_shared(self) -> bool:
        """Whether it is held by a run whose processes come and go, and not by one of them."""
        return self.pid == 0

    def shared(self) -> LockRecord:
        """The same, held by no process; versions of every age then watch it for its lease."""
        return replace(self, machine="", pid=0, process_started=0)

    @property
    def lease_s(self) -> float:
        return self.lease_ms / 1000 or DEFAULT_LEASE_S

    def is_abandoned(self) -> bool:
        """Whether it may be taken over without watching it."""
        if self.process.is_dead():
            return True
        here = bool(self.machine) and self.machine == _machine()
        return here and self.renewed_ms > 0 and clock_ms() - self.renewed_ms > self.lease_ms

    def seems_renewed(self, now: datetime) -> bool:
        """Whether it was renewed within a lease, if its clock and ours agree."""
        left = self.expires_at - now
        return timedelta(0) <= left <= timedelta(seconds=self.lease_s)

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
            shape = decode_as(_LockShape, raw, LOCK_NAME)
        except BadReply as error:
            raise ValueError(error.what) from None
        record: dict[str, Any] = asdict(shape)
        for key, value in record.items():
            if isinstance(value, str) and not value.isprintable():
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
        who = self.command if self.is_shared else f"pid {self.pid}: {self.command}"
        return f"{self.user}@{self.host} ({who}) since {at}{doing}"


def clock_ms() -> int:
    """Of the clock that all processes of this boot share and that cannot be set."""
    return round(awake_s() * 1000)


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
