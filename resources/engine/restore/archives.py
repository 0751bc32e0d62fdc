"""Does a backup hold the archives of what is to be restored, and of nothing else?"""

from __future__ import annotations

from collections.abc import Sequence

from resources.errors import BackupIncomplete, named_few, shown
from resources.model import ShardID, ShardPlace
from resources.repository.backup_set import BackupSet
from resources.repository.formats.manifest import Limits


def require_complete_backup(
    backup: BackupSet, wanted: Sequence[ShardPlace], limits: Limits
) -> None:
    """Require that there is an archive of every shard that has one.

    Raises:
        BackupIncomplete: one is missing, was never made, or is in a backup that is not read.
    """
    ids = {place.shard_id for place in wanted}
    gone = [archive for archive in backup.missing if archive.entry.shard_id in ids]
    if gone:
        raise BackupIncomplete(
            f"{gone[0].entry.file_name} is listed by {gone[0].manifest_file} and missing"
            + (f", and {len(gone) - 1} more" if len(gone) > 1 else ""),
            hint="copy it back; or restore an older state (-as-of TIME), or other databases (-db)",
        )
    details = backup.newest.manifest.details
    failed = {f.shard_id for f in details.failed} if details else set[ShardID]()
    never = sorted(ids & failed - backup.archives.keys())
    if never:
        raise BackupIncomplete(
            f"{backup.newest.file_name} is partial: {_named(never)} could not be saved, and the "
            "directory has no earlier archive",
            hint="restore the other databases with -db, or the other shards with -shard",
        )
    unread = sorted(ids & set(details.unchanged if details else ()) - backup.archives.keys())
    if unread:
        raise BackupIncomplete(
            f"{backup.newest.file_name} is incremental: {_named(unread)} must come from an earlier "
            "backup, which is not in the directory or is not read",
            hint="restore the directory without -full, and with -as-of "
            f"{backup.newest.file_name.removesuffix('.manifest')} for this very state",
        )
    if limits.shard_id is not None and not ids & backup.archives.keys():
        raise BackupIncomplete(
            f"the backup holds no archive of shard {limits.shard_id}",
            hint="shardkeeper restore -list shows the shards it holds",
        )


def _named(ids: Sequence[ShardID]) -> str:
    return f"shard{'s' * (len(ids) > 1)} {named_few(ids)}"


def check_places(backup: BackupSet, found: Sequence[ShardPlace]) -> None:
    """Require that each archive is of the place that the metastore gives its shard.

    Raises:
        BackupIncomplete: one is of another.
    """
    for place in found:
        entry = backup.archives[place.shard_id].entry
        # influxd 1.6 leaves both names empty when only -shard is given.
        if entry.database and (entry.database, entry.policy) != (place.database, place.policy):
            raise BackupIncomplete(
                f"{entry.file_name} is of {shown(entry.database)}.{shown(entry.policy)}, but shard "
                f"{place.shard_id} belongs to {shown(place.database)}.{shown(place.policy)}",
                hint="the directory mixes backups of several servers; restore one with -full",
            )
