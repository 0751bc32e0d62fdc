"""File names of portable backups: `20261122T095100Z.meta`, `.s7.tar.gz`, `.manifest`.

Names from a directory are recognized or ignored; names from a manifest are checked and
refused, never cleaned.

Source: influxd cmd/influxd/backup/backup.go; InfluxDB docs, "Back up and restore".
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from typing import Literal

from msgspec import Struct

from resources.errors import UnsafeName, shown
from resources.model import ShardID

MAX_FILE_NAME = 200
"""Leaves room in 255 bytes for what a store adds to the name of an unfinished file."""
PENDING_SUFFIX = ".pending"
"""Ends the names of unfinished files, ours and the Go tools'."""
RECEIPT_SUFFIX, REPAIR_SUFFIX = ".receipt.json", ".repair.json"
"""End the names of records that restores and repairs leave beside the backups."""
MAX_SHARD_ID = 2**64 - 1

_LAST_SECOND = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

FileKind = Literal["meta", "shard", "manifest", "copy"]
"""A copy is a manifest's; the original tools read names that end in `.manifest` only."""

_BACKUP = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
# The vendor's docs also write shard archives without the s: T.7.tar.gz.
_FILE = re.compile(
    r"([0-9]{8}T[0-9]{6}Z)\.(?:(meta|manifest|manifest\.copy)|s?(0|[1-9][0-9]{0,19})\.tar\.gz)"
)
_KINDS: dict[str, FileKind] = {"meta": "meta", "manifest": "manifest", "manifest.copy": "copy"}
_PENDING = re.compile(r"\.(.+)\.[0-9a-f]{16}" + re.escape(PENDING_SUFFIX), re.DOTALL)
_SAFE = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]*")


class BackupName(Struct, frozen=True, order=True):
    """A backup, named after the second it started in, UTC; sorts by time."""

    started_at: datetime

    def __post_init__(self) -> None:
        if self.started_at.tzinfo is not UTC or self.started_at.microsecond:
            raise ValueError(f"not a whole second in UTC: {self.started_at!r}")

    @classmethod
    def of(cls, started_at: datetime) -> BackupName:
        """The name of a backup started at an aware time; fractions of a second are dropped."""
        if started_at.tzinfo is None:
            raise ValueError(f"a time without a zone: {started_at!r}")
        return cls(started_at.astimezone(UTC).replace(microsecond=0))

    @classmethod
    def parse(cls, text: str) -> BackupName | None:
        """Read `20261122T095100Z`; None when it is not such a name, or no such time exists."""
        match = _BACKUP.fullmatch(text)
        if match is None:
            return None
        year, month, day, hour, minute, second = map(int, match.groups())
        try:
            return cls(datetime(year, month, day, hour, minute, second, tzinfo=UTC))
        except ValueError:
            return None

    def next(self) -> BackupName:
        """One second later: the name to take when this one is taken.

        Raises:
            UnsafeName: there is no later second; calendars end with the year 9999.
        """
        if self.started_at == _LAST_SECOND:
            raise UnsafeName(f"no backup can follow {self}", hint="remove the files of that name")
        return BackupName(self.started_at + timedelta(seconds=1))

    @property
    def meta_file(self) -> str:
        return f"{self}.meta"

    @property
    def manifest_file(self) -> str:
        return f"{self}.manifest"

    @property
    def copy_file(self) -> str:
        """A second copy of the manifest."""
        return copy_of(self.manifest_file)

    def shard_file(self, shard_id: ShardID) -> str:
        return f"{self}.s{shard_id}.tar.gz"

    def __str__(self) -> str:
        # strftime does not pad years below 1000 everywhere.
        at = self.started_at
        return f"{at.year:04}{at.month:02}{at.day:02}T{at.hour:02}{at.minute:02}{at.second:02}Z"


class FileName(Struct, frozen=True):
    """What a file's name says about it."""

    backup: BackupName
    kind: FileKind
    shard_id: ShardID | None = None
    """Set for shards only."""


def parse_file_name(name: str) -> FileName | None:
    """Recognize a file of a backup by its name; None for every other name."""
    match = _FILE.fullmatch(name)
    if match is None:
        return None
    stamp, other, digits = match.groups()
    backup = BackupName.parse(stamp)
    if backup is None:
        return None
    if digits is None:
        return FileName(backup, _KINDS[other])
    shard_id = parse_shard_id(digits)
    return None if shard_id is None else FileName(backup, "shard", shard_id)


def copy_of(manifest_file: str) -> str:
    """The name of a manifest's second copy."""
    return f"{manifest_file}.copy"


def parse_shard_id(digits: str) -> ShardID | None:
    """An unsigned 64-bit number in decimal without leading zeros, or None."""
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 20:
        return None
    if digits[0] == "0" and len(digits) > 1:
        return None
    value = int(digits)
    return ShardID(value) if value <= MAX_SHARD_ID else None


def check_file_name(name: str) -> str:
    """Return `name` if it can only mean a file right inside a store.

    Letters, digits, dots, underscores and hyphens, not starting with a hyphen, not ending
    with a dot, at most 200 characters, not the name of an unfinished file.

    Raises:
        UnsafeName: anything else; the name in the message is escaped.
    """
    reason = unsafe_because(name)
    if reason:
        raise UnsafeName(
            f"file name {shown(name)} is refused: {reason}",
            hint="only plain file names are followed; do not restore from this directory "
            "until you know who wrote that name",
        )
    return name


def unsafe_because(name: str) -> str:
    """Why `name` is not a plain file name; empty when it is one."""
    if _FILE.fullmatch(name):  # as nearly all are
        return ""
    if not name:
        return "it is empty"
    if len(name) > MAX_FILE_NAME:
        return f"it has {len(name)} characters, more than {MAX_FILE_NAME}"
    if "://" in name:
        return "it is a URL"
    if "/" in name or "\\" in name:
        return "it has a path separator"
    if not name.strip("."):
        return "it consists of dots"
    if name.endswith("."):
        return "it ends with a dot"
    if name.endswith(PENDING_SUFFIX):
        return "it is the name of an unfinished file"
    if not _SAFE.fullmatch(name):
        return "it has characters other than letters, digits, dots, underscores and hyphens"
    return ""


def pending_name(name: str) -> str:
    """A name for `name` while it is written: hidden, beside it, and unique."""
    return f".{name}.{os.urandom(8).hex()}{PENDING_SUFFIX}"


def finished_name(pending: str) -> str | None:
    """The inverse of `pending_name`; None when the name is no unfinished file of ours."""
    match = _PENDING.fullmatch(pending)
    return match[1] if match else None
