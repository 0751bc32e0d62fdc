"""Which state of a repository a restore means: the newest one, or that of a moment."""

from __future__ import annotations

from datetime import UTC, datetime

from resources.errors import UsageError, shown
from resources.repository.backup_set import BackupSet
from resources.repository.formats.names import BackupName
from resources.repository.repository import BackupRepository

LATEST = "latest"


def backup_as_of(repository: BackupRepository, as_of: str) -> BackupSet:
    """The newest archive of every shard, over all backups not begun after `as_of`.

    Args:
        as_of: `latest` or nothing, `20261122T095100Z`, or `2026-11-22T09:51:00Z`.

    Raises:
        UsageError: it is no time.
        RepositoryError: there is no backup that old, or a manifest is damaged.
    """
    return repository.current(as_of=None if as_of in ("", LATEST) else parse_moment(as_of))


def parse_moment(text: str) -> datetime:
    """Read a backup's name or an ISO 8601 time; without a zone it is in UTC.

    Raises:
        UsageError: it is neither.
    """
    backup = BackupName.parse(text)
    if backup is not None:
        return backup.started_at
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{shown(text)} is no time", hint="write 20261122T095100Z, or 2026-11-22T09:51:00Z"
        ) from None
