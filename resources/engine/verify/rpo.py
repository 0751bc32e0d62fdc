"""Is every shard in a recent enough backup, and do all files of the newest state exist?"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from resources.engine.verify.inventory import Problem
from resources.model import ShardPlace
from resources.repository.backup_set import BackupSet
from resources.repository.formats.names import BackupName
from resources.repository.manifest_cache import ManifestCache
from resources.repository.repository import BackupRepository


def last_backup(cached: ManifestCache, place: ShardPlace) -> BackupName | None:
    """The newest backup that saved the shard or found it unchanged, or was whole without it."""
    return cached.last_covered(place.shard_id) or cached.last_whole


def late_shards(
    cached: ManifestCache, places: Iterable[ShardPlace], since: datetime
) -> list[ShardPlace]:
    """Shards that no backup begun after `since` has saved or found unchanged.

    A shard that no backup knows is late only if no whole backup was made since then; otherwise it
    is newer than that backup.
    """
    late: list[ShardPlace] = []
    for place in places:
        covered = last_backup(cached, place)
        if covered is None or covered.started_at < since:
            late.append(place)
    return late


def missing_files(
    repository: BackupRepository, listed: BackupSet | None = None
) -> tuple[int, list[Problem]]:
    """(number of files that a restore of the newest state reads, problems of these files).

    Args:
        listed: what the manifests list, if they were read already; archives of the same content
            are not looked for then.

    Raises:
        RepositoryError: there is no backup, or a manifest is damaged.
    """
    backups, sizes = listed or repository.current(), repository.store.names()
    problems: list[Problem] = []
    for archive in (*backups.missing, *backups.archives.values()):
        entry, size_bytes = archive.entry, sizes.get(archive.entry.file_name)
        stored = entry.details.stored_bytes if entry.details else size_bytes
        if size_bytes is None:
            what = f"listed by {archive.manifest_file} and missing"
            problems.append(Problem(entry.file_name, what))
        elif size_bytes != stored:
            what = f"{size_bytes} bytes, {archive.manifest_file} says {stored}"
            problems.append(Problem(entry.file_name, what))
    if backups.meta.file_name not in sizes:
        problems.append(
            Problem(
                backups.meta.file_name, f"listed by {backups.newest.file_name} and missing", "meta"
            )
        )
    details = backups.newest.manifest.details
    known = backups.archives.keys() | {a.entry.shard_id for a in backups.missing}
    for shard_id in details.unchanged if details else ():
        if shard_id not in known:
            problems.append(
                Problem(
                    backups.newest.file_name,
                    f"shard {shard_id} is in an archive of an earlier backup that is not here",
                )
            )
    return len(backups.archives) + len(backups.missing) + 1, problems
