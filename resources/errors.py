"""The errors that Shardkeeper raises; each gives its reader the next step.

Every error of ours is a `ShardkeeperError`: one sentence about what happened to which
thing, a hint with the next step, an exit status, and whether trying again can help.
Any other exception that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit statuses of `shardkeeper`; `influxd-ctl` knows only 0, 1 and 130."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    NO_REPOSITORY = 10
    LOCKED = 11
    CREDENTIALS = 12
    DAMAGED = 13
    CONFLICT = 14
    NO_SPACE = 15
    UNSUPPORTED = 16
    INTERRUPTED = 130


class ShardkeeperError(Exception):
    """A failure that Shardkeeper can explain.

    Attributes:
        what: the thing and what happened to it, one sentence without a full stop.
        hint: the reader's next step; may be empty.
        exit_code: the status a command ends with.
        retryable: whether the same request may succeed a moment later.
    """

    exit_code = ExitCode.FAILED
    retryable = False

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        notes = "".join(f" ({note})" for note in getattr(self, "__notes__", ()))
        return self.what + notes


def shown(text: str, limit: int = 120) -> str:
    """Quote an untrusted name for a message: ASCII, control characters escaped, cut."""
    return ascii(text) if len(text) <= limit else ascii(text[:limit]) + "…"


def counted(number: int, one: str, several: str = "") -> str:
    """A number and its noun: 1 shard, 2 shards; with two texts: 1 shard is, 2 shards are."""
    return f"{number} {one if number == 1 else several or one + 's'}"


def readable_size(size_bytes: int) -> str:
    """A size for readers: `512 B`, `1.5 kB`, `20.0 GB`."""
    number, unit = float(size_bytes), "B"
    for larger in "kB", "MB", "GB", "TB", "PB":
        if number < 999.95:
            break
        number, unit = number / 1000, larger
    return f"{size_bytes} B" if unit == "B" else f"{number:.1f} {unit}"


def named_few(names: Iterable[object], limit: int = 10) -> str:
    """A list for a message: 1, 2, 3 and 12 more."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


class Stopped(ShardkeeperError):
    """The run received a request to stop."""


class UsageError(ShardkeeperError):
    """Flags or configuration that contradict each other."""

    exit_code = ExitCode.USAGE


# --- the wire -----------------------------------------------------------------------------


class WireError(ShardkeeperError):
    """A peer could not be reached, or its reply could not be understood."""


class PeerUnreachable(WireError):
    """No connection, or it broke: refused, reset, timed out, unknown host."""

    retryable = True


class ConnectionCut(PeerUnreachable):
    """The connection was made and broke before the peer had answered."""


class PeerSilent(PeerUnreachable):
    """The peer accepted the connection and sent nothing for too long.

    It may still carry out the request.
    """


class PeerTooSlow(PeerUnreachable):
    """The peer stayed below the minimum rate for longer than the time-out."""


class PeerAway(PeerUnreachable):
    """The peer did not answer a moment ago, so no request was sent; a later one may be."""


class PeerClosedEarly(WireError):
    """The connection ended before the reply did. The snapshotter reports every error like this."""

    retryable = True


class PeerRefused(WireError):
    """The peer understood the request and refused it."""


class CredentialsRefused(PeerRefused):
    """The peer requires other credentials."""

    exit_code = ExitCode.CREDENTIALS


class BadReply(WireError):
    """The peer's reply does not follow its protocol."""


class UnknownOutcome(WireError):
    """A command was sent and may have taken effect: check before trying again."""


class UnsupportedPeer(WireError):
    """A server of a kind or version that this version of Shardkeeper does not support."""

    exit_code = ExitCode.UNSUPPORTED


class ShardBusy(PeerClosedEarly):
    """A node did not write a shard's cache to files before it listed them."""

    exit_code = ExitCode.PARTIAL


class ShardHeld(WireError):
    """A server neither sends a shard nor accepts one: another connection may have it open."""


class ShardLeftAlone(ShardkeeperError):
    """Reading this shard has crashed its server more than once, so it is skipped."""

    exit_code = ExitCode.PARTIAL


class NotWrittenOut(ShardkeeperError):
    """A node keeps part of a shard in memory, so an archive would not contain it."""

    exit_code = ExitCode.PARTIAL


class CompletenessUnknown(ShardkeeperError):
    """Complete archives are required, and no server reports whether this one is."""

    exit_code = ExitCode.PARTIAL


# --- planning -----------------------------------------------------------------------------


class PlanError(ShardkeeperError):
    """The request cannot be carried out; nothing was changed."""


class NothingMatches(PlanError):
    """No database, policy or shard has that name or id."""


class NoUsableCopy(PlanError):
    """No node has data of a shard."""


class TargetNotEmpty(PlanError):
    """A restore would write to a place that has data."""

    exit_code = ExitCode.CONFLICT


class DatabaseExists(TargetNotEmpty):
    """A restore would create a database that is there.

    The message has the original's words, for scripts; the hint begins with the database.
    """


class TargetUnsuitable(PlanError):
    """The target is there and has no place for what would be restored."""

    exit_code = ExitCode.CONFLICT


class SourceChanged(TargetNotEmpty):
    """A source is not the one that the repository's backups come from, or it was replaced."""


class MetaLost(SourceChanged):
    """A server's disk has data that its metastore does not list."""


class WouldExpire(TargetUnsuitable):
    """The target's retention policy would delete the restored points at once."""


class TargetBusy(PlanError):
    """Another run is restoring into the same target."""

    exit_code = ExitCode.CONFLICT
    retryable = True


# --- the repository -----------------------------------------------------------------------


class RepositoryError(ShardkeeperError):
    """A failure of a repository or of a backup in it."""


class RepositoryMissing(RepositoryError):
    """The directory does not exist, or is a file."""

    exit_code = ExitCode.NO_REPOSITORY


class RepositoryLocked(RepositoryError):
    """Another run holds the lock of the repository."""

    exit_code = ExitCode.LOCKED


class StoreFailed(RepositoryError):
    """The file system refused an operation: read-only, permission, I/O error."""


class StoreFull(StoreFailed):
    """No space is left, or a quota or file size limit is reached."""

    exit_code = ExitCode.NO_SPACE


class LockLost(RepositoryLocked, StoreFailed):
    """Another run has taken this run's lock, so this run can change nothing any more."""

    exit_code = ExitCode.LOCKED


class BatchTaken(LockLost):
    """Another worker of the same run has taken over what this one was doing."""


class RecordHeld(RepositoryLocked, StoreFailed):
    """Another process stopped while it replaces a record; it may hold the repository's lock."""

    exit_code = ExitCode.LOCKED


class DraftSwept(StoreFailed):
    """Another run deleted the unfinished file of this run, which had paused for too long."""

    exit_code = ExitCode.LOCKED


class NameTaken(RepositoryError):
    """The store already has an object of that name; objects are never overwritten."""

    exit_code = ExitCode.CONFLICT


class NameMissing(RepositoryError):
    """The store has no object of that name."""

    exit_code = ExitCode.DAMAGED


class BackupNotFound(RepositoryError):
    """The repository has no such backup, or no backup at all."""

    exit_code = ExitCode.NO_REPOSITORY


class BackupIncomplete(RepositoryError):
    """A part of the backup is missing."""

    exit_code = ExitCode.DAMAGED


class ManifestUnreadable(RepositoryError):
    """A manifest or meta file is damaged or breaks the format."""

    exit_code = ExitCode.DAMAGED


class ArchiveCorrupt(RepositoryError):
    """An archive is cut, damaged or hostile; the message has the member and the offset."""

    exit_code = ExitCode.DAMAGED


class UnsafeName(ArchiveCorrupt):
    """A name from a file or a socket that could lead outside its directory."""


# --- TSM files ----------------------------------------------------------------------------


class TSMError(ShardkeeperError):
    """A TSM or tombstone file breaks the format; the message has the offset."""

    exit_code = ExitCode.DAMAGED


class BadMagic(TSMError):
    """Not a TSM file of version 1."""


class BlockChecksumMismatch(TSMError):
    """A block's CRC-32 does not fit its bytes."""


class IndexOutOfOrder(TSMError):
    """Index keys or entries are not in ascending order, or point outside the blocks."""


class BlockUndecodable(TSMError):
    """A block's encoding is broken."""


# --- results ------------------------------------------------------------------------------


class BackupPartial(ShardkeeperError):
    """Some shards were saved and some were not."""

    exit_code = ExitCode.PARTIAL


class RestorePartial(ShardkeeperError):
    """Everything is restored except what was damaged at the source."""

    exit_code = ExitCode.PARTIAL


class MergePartial(ShardkeeperError):
    """Some points were merged and some were not; the temporary database is still there."""

    exit_code = ExitCode.PARTIAL


class RestoreFailed(ShardkeeperError):
    """A restore changed the target and could not finish."""


class ReadBackMismatch(RestoreFailed):
    """The target's shard differs from what was sent to it."""

    exit_code = ExitCode.DAMAGED


class ReceiptNotStored(ShardkeeperError):
    """A restore succeeded, and its receipt could not be stored."""

    exit_code = ExitCode.PARTIAL
