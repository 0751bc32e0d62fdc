"""The changes that each backup brought, compared with the backups before it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from resources.errors import RepositoryError, WireError
from resources.model import ShardID, ShardPlace
from resources.protocol.meta import decode_metastore
from resources.repository.backup_set import Archive, StoredManifest, era_of, keep_newest, single_set
from resources.repository.formats.manifest import ShardEntry
from resources.repository.repository import BackupRepository

Kind = Literal["gone", "new", "changed"]


class ShardChange(Struct, frozen=True):
    """One shard that differs from the backups before.

    Attributes:
        before: its newest archive before this backup; None: it had none.
        now: its archive in this backup; None: the shard is gone from the source.
    """

    kind: Kind
    shard_id: ShardID
    database: str
    policy: str
    before: ShardEntry | None
    now: ShardEntry | None


class SetChanges(Struct, frozen=True):
    """The changes since the last backup.

    Attributes:
        since: the file name of the manifest before this one; empty: this is the first.
        shards: gone shards first, then new ones, then changed ones.
        unknown: why it is not known which shards are gone; empty if it is known.
    """

    since: str
    shards: tuple[ShardChange, ...]
    unknown: str = ""

    def count(self, kind: Kind) -> int:
        return sum(change.kind == kind for change in self.shards)


class Succession:
    """Walks through a directory's backups from the oldest, and reads each manifest once.

    It holds only the newest archive of each shard, however many backups there are.
    """

    def __init__(self, repository: BackupRepository) -> None:
        self._repository = repository
        self._archives: dict[ShardID, Archive] = {}
        self._last = ""
        self._whole = ""
        self._era = ""

    def changes(self, stored: StoredManifest) -> SetChanges:
        """The changes of a backup; call it for the oldest backup first.

        Raises:
            RepositoryError: a manifest of an earlier backup is damaged.
        """
        self._go_on(stored.file_name)
        self._enter(stored)
        copied: list[ShardChange] = []
        for entry in stored.manifest.files:
            before = self._archives.get(entry.shard_id)
            if before is None or not _alike(before.entry, entry):
                copied.append(
                    ShardChange(
                        kind="changed" if before else "new",
                        shard_id=entry.shard_id,
                        database=entry.database,
                        policy=entry.policy,
                        before=before.entry if before else None,
                        now=entry,
                    )
                )
        copied.sort(key=lambda change: (change.kind == "changed", change.shard_id))
        gone, unknown = self._gone(stored)
        return SetChanges(self._last, (*gone, *copied), unknown)

    def _go_on(self, until: str) -> None:
        names = self._repository.store.names()
        for name in sorted(n for n in names if n.endswith(".manifest") and self._last < n < until):
            stored = self._repository.manifest(name)
            self._enter(stored)
            for entry in stored.manifest.files:
                keep_newest(self._archives, Archive(entry, name))
            self._last = name
            if not stored.manifest.limited:
                self._whole = name

    def _enter(self, stored: StoredManifest) -> None:
        """Start again in a new era, in which the same IDs are other shards."""
        era = era_of(stored, self._era)
        if era != self._era:
            self._archives, self._whole, self._era = {}, "", era

    def _gone(self, stored: StoredManifest) -> tuple[list[ShardChange], str]:
        """Saved shards that the last complete backup saw at the source, and this one does not."""
        if stored.manifest.limited or not self._whole:
            return [], ""
        try:
            there = {place.shard_id for place in self._places(stored)}
            before = self._places(self._repository.manifest(self._whole))
        except (RepositoryError, WireError) as error:
            return [], str(error)
        gone = [
            ShardChange(
                kind="gone",
                shard_id=place.shard_id,
                database=place.database,
                policy=place.policy,
                before=archive.entry,
                now=None,
            )
            for place in before
            if place.shard_id not in there
            and (archive := self._archives.get(place.shard_id)) is not None
        ]
        return sorted(gone, key=lambda change: change.shard_id), ""

    def _places(self, stored: StoredManifest) -> list[ShardPlace]:
        backup = single_set(stored, self._repository.store.names())
        return list(decode_metastore(self._repository.read_meta(backup)).places())


def _alike(one: ShardEntry, other: ShardEntry) -> bool:
    """Whether two archives hold the same files; False if one has no details."""
    if one.details is None or other.details is None:
        return False
    return one.details.content == other.details.content
