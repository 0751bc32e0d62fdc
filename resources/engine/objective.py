"""Is every shard in a backup that is young enough, and is everything there that it needs?"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from resources.engine.inventory import Problem
from resources.model import ShardPlace
from resources.repository.repository import BackupRepository
from resources.repository.watched import WatchedRepository


def late_shards(
    watched: WatchedRepository, places: Iterable[ShardPlace], since: datetime
) -> list[ShardPlace]:
    """Shards that no backup begun after `since` has saved or found unchanged.

    One that no backup knows is late only if no whole one was made since then: else it is
    younger than that.
    """
    late: list[ShardPlace] = []
    for place in places:
        covered = watched.last_covered(place.shard_id) or watched.last_whole
        if covered is None or covered.started_at < since:
            late.append(place)
    return late


def missing_files(repository: BackupRepository) -> tuple[int, list[Problem]]:
    """(files that restoring the newest state takes, those that are not there as stored).

    Raises:
        RepositoryError: there is no backup, or a manifest is damaged.
    """
    backups, sizes = repository.current(), repository.store.names()
    problems = [
        Problem(a.entry.file_name, f"listed by {a.manifest_file} and missing")
        for a in backups.missing
    ]
    for archive in backups.archives.values():
        entry, size_bytes = archive.entry, sizes.get(archive.entry.file_name)
        if entry.evidence is not None and size_bytes != entry.evidence.stored_bytes:
            problems.append(
                Problem(
                    entry.file_name,
                    f"{size_bytes} bytes, {archive.manifest_file} says "
                    f"{entry.evidence.stored_bytes}",
                )
            )
    if backups.meta.file_name not in sizes:
        problems.append(
            Problem(
                backups.meta.file_name, f"listed by {backups.newest.file_name} and missing", "meta"
            )
        )
    evidence = backups.newest.manifest.evidence
    known = backups.archives.keys() | {a.entry.shard_id for a in backups.missing}
    for shard_id in evidence.unchanged if evidence else ():
        if shard_id not in known:
            problems.append(
                Problem(
                    backups.newest.file_name,
                    f"shard {shard_id} is in an archive of an earlier backup that is not here",
                )
            )
    return len(backups.archives) + len(backups.missing) + 1, problems
