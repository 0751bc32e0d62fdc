"""What the manifests of a repository list, for a process that asks often: each is read once.

A manifest never changes, and never comes back once it is deleted. So the cache keeps, for each
shard, its newest archive and the newest backup that covers it, and reads only what is new. Ten
thousand shards take some ten megabytes, however many backups there are.

A cache has a repository and is none: whether files are present is not known here. What must know
that asks `cache.repository`.
"""

from __future__ import annotations

from collections.abc import Mapping

from resources.errors import BackupNotFound
from resources.model import Metastore, ShardID, ShardPlace
from resources.protocol.meta import decode_metastore
from resources.repository.backup_set import (
    Archive,
    BackupSet,
    StoredManifest,
    era_of,
    keep_newest,
    note_proof,
    proven_by,
)
from resources.repository.formats.names import BackupName, parse_file_name
from resources.repository.manifest_replica import explain_lost, lost_manifests
from resources.repository.repository import BackupRepository


class ManifestCache:
    """What the manifests of one repository list.

    Attributes:
        repository: reads everything anew each time.
    """

    def __init__(self, repository: BackupRepository) -> None:
        self.repository = repository
        self._forget()

    def _forget(self) -> None:
        self._known: set[str] = set()
        self._archives: dict[ShardID, Archive] = {}
        self._covered: dict[ShardID, BackupName] = {}
        self._newest: StoredManifest | None = None
        self._whole: BackupName | None = None
        self._last: StoredManifest | None = None
        self._metastore: tuple[str, Metastore] | None = None
        self._era = ""

    def manifest(self, name: str) -> StoredManifest:
        """As `BackupRepository.manifest`; the newest is remembered, and the last one asked for."""
        for known in self._newest, self._last:
            if known is not None and known.file_name == name:
                return known
        self._last = self.repository.manifest(name)
        return self._last

    def listed(self) -> BackupSet:
        """The newest archive of each shard, as the manifests list them.

        Unlike `BackupRepository.current`, this does not know which of their files are missing.

        Raises:
            BackupNotFound: there is no manifest.
            ManifestUnreadable, UnsafeName: as `refresh`.
        """
        self.refresh()
        if self._newest is None:
            raise BackupNotFound(f"No manifest files found in: {self.repository.location}")
        return BackupSet(self._newest, self._archives, (), before=self._era)

    def refresh(self) -> list[StoredManifest]:
        """Read the manifests that are new, and return them, oldest first.

        Raises:
            ManifestUnreadable, UnsafeName: one of them is damaged or hostile, or gone, and its
                copy cannot take its place.
        """
        names = self.repository.store.names()
        for lost in lost_manifests(self.repository.store, names):
            raise explain_lost(lost)
        there = {name for name in names if name.endswith(".manifest")}
        if not self._known <= there:
            self._forget()
        fresh = [self.manifest(name) for name in sorted(there - self._known)]
        for stored in fresh:
            self._fold(stored)
        return fresh

    @property
    def archives(self) -> Mapping[ShardID, Archive]:
        """The newest archive of each shard, as of the last `refresh`; their files may be gone."""
        return self._archives

    @property
    def newest(self) -> StoredManifest | None:
        """Of the manifests that the last `refresh` found."""
        return self._newest

    def metastore(self) -> Metastore | None:
        """What the newest backup says of its source; None if there is no backup.

        Raises:
            RepositoryError, WireError: as `metastore_of`.
        """
        return None if self._newest is None else self.metastore_of(self._newest)

    def metastore_of(self, stored: StoredManifest) -> Metastore:
        """The metastore in a backup; the last one is kept in memory.

        Raises:
            RepositoryError: its meta file is gone or damaged.
            BadReply: it holds no metastore.
        """
        if self._metastore is None or self._metastore[0] != stored.file_name:
            raw = self.repository.read_meta_of(stored)
            self._metastore = stored.file_name, decode_metastore(raw)
        return self._metastore[1]

    def covered(self) -> list[ShardPlace]:
        """The shards of the newest backup's source that are in any backup.

        Raises:
            RepositoryError, WireError: as `metastore`.
        """
        metastore = self.metastore()
        places = metastore.places() if metastore else ()
        return [place for place in places if place.shard_id in self._covered]

    def last_covered(self, shard_id: ShardID) -> BackupName | None:
        """The newest backup in which the shard was saved or found unchanged."""
        return self._covered.get(shard_id)

    @property
    def last_whole(self) -> BackupName | None:
        """The newest backup that left nothing out."""
        return self._whole

    def _fold(self, stored: StoredManifest) -> None:
        manifest = stored.manifest
        found = parse_file_name(stored.file_name)
        era = era_of(stored, self._era)
        if era != self._era:  # the same numbers are other shards from here on
            self._archives, self._covered, self._whole, self._era = {}, {}, None, era
        for entry in manifest.files:
            keep_newest(self._archives, Archive(entry, stored.file_name))
        for shard in proven_by(stored):
            note_proof(self._archives, shard)
        if found is not None:
            if not manifest.limited:
                self._whole = max(self._whole or found.backup, found.backup)
            unchanged = manifest.details.unchanged if manifest.details else ()
            for shard_id in (*(entry.shard_id for entry in manifest.files), *unchanged):
                if self._covered.get(shard_id, found.backup) <= found.backup:
                    self._covered[shard_id] = found.backup
        if self._newest is None or stored.file_name > self._newest.file_name:
            self._newest = stored
        self._known.add(stored.file_name)
