"""What can go wrong, said so that the reader knows what to do next.

Every error of ours is a `ShardkeeperError`: one sentence about what happened to which
thing, a hint with the next step, an exit status, and whether trying again can help.
Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

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
    """Something failed and we know how to say it.

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
    """A name from outside, fit for a message: quoted, ASCII, control characters escaped, cut."""
    return ascii(text) if len(text) <= limit else ascii(text[:limit]) + "…"


class Stopped(ShardkeeperError):
    """The run was asked to stop."""


class UsageError(ShardkeeperError):
    """Flags or configuration that contradict each other."""

    exit_code = ExitCode.USAGE


# --- the wire -----------------------------------------------------------------------------


class WireError(ShardkeeperError):
    """A peer could not be understood, or not be reached."""


class PeerUnreachable(WireError):
    """No connection, or it broke: refused, reset, timed out, unknown host."""

    retryable = True


class ConnectionCut(PeerUnreachable):
    """It was reached, and the connection broke before it had answered."""


class PeerSilent(PeerUnreachable):
    """It was reached and said nothing for too long; what it was asked for may still be done."""


class PeerTooSlow(PeerUnreachable):
    """It sends or takes less than the minimum rate, for longer than it may be silent."""


class PeerAway(PeerUnreachable):
    """It did not answer a moment ago, so that it is not asked: its turn comes again later."""


class PeerClosedEarly(WireError):
    """The connection ended before the reply did. The snapshotter reports every error like this."""

    retryable = True


class PeerRefused(WireError):
    """The peer understood and said no."""


class CredentialsRefused(PeerRefused):
    """The peer wants other credentials."""

    exit_code = ExitCode.CREDENTIALS


class BadReply(WireError):
    """The peer answered something that is not in its protocol."""


class UnknownOutcome(WireError):
    """A command was sent, and whether it took effect is not known: look before trying again."""


class UnsupportedPeer(WireError):
    """A server of a kind or version that this version of Shardkeeper does not handle."""

    exit_code = ExitCode.UNSUPPORTED


class ShardBusy(PeerClosedEarly):
    """A node did not write a shard's cache to files when it was asked to list them."""

    exit_code = ExitCode.PARTIAL


class ShardHeld(WireError):
    """A server neither hands a shard out nor takes it in: another connection may have it open."""


class ShardLeftAlone(ShardkeeperError):
    """Reading a shard has brought its server down more than once."""

    exit_code = ExitCode.PARTIAL


class NotWrittenOut(ShardkeeperError):
    """A node keeps some of a shard in memory, so that an archive would lack it."""

    exit_code = ExitCode.PARTIAL


class CompletenessUnknown(ShardkeeperError):
    """Nobody tells whether an archive is complete, and complete ones were asked for."""

    exit_code = ExitCode.PARTIAL


# --- planning -----------------------------------------------------------------------------


class PlanError(ShardkeeperError):
    """What was asked for cannot be done; nothing was touched."""


class NothingMatches(PlanError):
    """No database, policy or shard of that name or number."""


class NoUsableCopy(PlanError):
    """No node holds data of a shard."""


class TargetNotEmpty(PlanError):
    """A restore would write where data is."""

    exit_code = ExitCode.CONFLICT


class SourceChanged(TargetNotEmpty):
    """A source is not the one that a repository holds backups of, or not as it was any more."""


class MetaLost(SourceChanged):
    """A server's data is on its disk, and its metastore does not know it."""


class WouldExpire(PlanError):
    """The target would delete at once what was brought there."""


class TargetBusy(PlanError):
    """Another run is restoring there."""

    exit_code = ExitCode.CONFLICT
    retryable = True


# --- the repository -----------------------------------------------------------------------


class RepositoryError(ShardkeeperError):
    """Something about stored backups."""


class RepositoryMissing(RepositoryError):
    """The directory is not there, or is not a directory."""

    exit_code = ExitCode.NO_REPOSITORY


class RepositoryLocked(RepositoryError):
    """Another run holds the directory."""

    exit_code = ExitCode.LOCKED


class StoreFailed(RepositoryError):
    """The file system said no: read-only, permission, I/O error."""


class StoreFull(StoreFailed):
    """No space left, or a quota or file size limit was met."""

    exit_code = ExitCode.NO_SPACE


class LockLost(RepositoryLocked, StoreFailed):
    """Another run took the place of this one, which can change nothing there any more."""

    exit_code = ExitCode.LOCKED


class RecordHeld(RepositoryLocked, StoreFailed):
    """Another process is amid replacing a record, and stands still; it may hold the directory."""

    exit_code = ExitCode.LOCKED


class DraftSwept(StoreFailed):
    """Another run deleted what this one was writing, as it stood still for so long."""

    exit_code = ExitCode.LOCKED


class NameTaken(RepositoryError):
    """A store already holds an object of that name; nothing is ever overwritten."""

    exit_code = ExitCode.CONFLICT


class NameMissing(RepositoryError):
    """A store holds no object of that name."""

    exit_code = ExitCode.DAMAGED


class BackupNotFound(RepositoryError):
    """No such backup, or none at all."""

    exit_code = ExitCode.NO_REPOSITORY


class BackupIncomplete(RepositoryError):
    """A backup lacks something that it should have."""

    exit_code = ExitCode.DAMAGED


class ManifestUnreadable(RepositoryError):
    """A manifest or meta file is not what it should be."""

    exit_code = ExitCode.DAMAGED


class ArchiveCorrupt(RepositoryError):
    """An archive is cut, damaged or hostile; the message has the member and the offset."""

    exit_code = ExitCode.DAMAGED


class UnsafeName(ArchiveCorrupt):
    """A name from a file or a socket that could lead outside its place."""


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
    """Everything is restored but what was damaged at the source."""

    exit_code = ExitCode.PARTIAL


class MergePartial(ShardkeeperError):
    """Some points were merged and some were not; the temporary database is still there."""

    exit_code = ExitCode.PARTIAL


class RestoreFailed(ShardkeeperError):
    """A restore began to change the target and could not finish."""


class ReadBackMismatch(RestoreFailed):
    """The target does not hold what was sent to it."""

    exit_code = ExitCode.DAMAGED


class ReceiptNotStored(ShardkeeperError):
    """A restore succeeded, and the proof of it could not be kept."""

    exit_code = ExitCode.PARTIAL
