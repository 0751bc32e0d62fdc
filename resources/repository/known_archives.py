"""The archives that the repository already has of a source's shards."""

from __future__ import annotations

from collections.abc import Collection

from resources.model import ShardID, ShardPlace
from resources.repository.backup_set import Archive, BackupSet
from resources.repository.repository import BackupRepository


class KnownArchives:
    """The newest archive of each shard, and whether its file is present as it was stored.

    Args:
        backups: None if there is no backup yet.
        no_good: shards whose archives are known to be damaged.
    """

    def __init__(
        self,
        repository: BackupRepository,
        backups: BackupSet | None,
        no_good: Collection[ShardID] = (),
    ) -> None:
        self._no_good = no_good
        self._newest: dict[ShardID, Archive] = dict(backups.archives) if backups else {}
        if backups:
            gone = (*backups.missing, *backups.replaced)
            self._newest.update({a.entry.shard_id: a for a in gone})
        self._listed = _listed(backups)
        sizes = backups.sizes if backups else None
        self._sizes = repository.store.names() if sizes is None else sizes
        self.scratch_dir = repository.scratch_dir

    def archive_of(self, place: ShardPlace) -> Archive | None:
        """The shard's newest archive, also if its file is gone; None if it is of another place."""
        found = self._newest.get(place.shard_id)
        if found is None:
            return None
        named = (found.entry.database, found.entry.policy)
        return found if named in ((place.database, place.policy), ("", "")) else None

    def has_heard_of(self, place: ShardPlace) -> bool:
        """Whether the shard has an archive, or the newest backup lists it without one."""
        return self.archive_of(place) is not None or place.shard_id in self._listed

    def is_whole(self, archive: Archive | None) -> bool:
        """Whether its file is present with the size as stored, and not known to be damaged."""
        if archive is None or archive.entry.shard_id in self._no_good:
            return False
        size_bytes, details = self._sizes.get(archive.entry.file_name), archive.entry.details
        if size_bytes is None:
            return False
        return details is None or details.stored_bytes == size_bytes


def _listed(backups: BackupSet | None) -> frozenset[ShardID]:
    """Shards that the newest backup names without having an archive of them."""
    details = backups.newest.manifest.details if backups else None
    if details is None:
        return frozenset()
    return frozenset([*details.unchanged, *(failed.shard_id for failed in details.failed)])
