"""What a restore would read: one meta file and the newest archive of every shard.

`current_set` reads a directory of incremental backups as the original tools do (influxdb
cmd/influxd/backup_util, LoadIncremental); `single_set` reads one manifest alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from resources.model import ShardID
from resources.repository.manifest import Manifest, MetaEntry, ShardEntry


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest and the name it is stored under."""

    file_name: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Archive:
    """A shard's archive and the manifest that lists it."""

    entry: ShardEntry
    manifest_file: str


@dataclass(frozen=True, slots=True)
class BackupSet:
    """Everything that restoring takes, by name; nothing is opened yet."""

    newest: StoredManifest
    archives: Mapping[ShardID, Archive]
    missing: tuple[Archive, ...]
    """Listed by a manifest as a shard's newest archive, and not in the store."""

    @property
    def meta(self) -> MetaEntry:
        return self.newest.manifest.meta


def single_set(stored: StoredManifest, sizes: Mapping[str, int]) -> BackupSet:
    """The set of one manifest alone, as `restore -full` reads it."""
    archives = [Archive(entry, stored.file_name) for entry in stored.manifest.files]
    return BackupSet(
        newest=stored,
        archives={a.entry.shard_id: a for a in archives if a.entry.file_name in sizes},
        missing=tuple(a for a in archives if a.entry.file_name not in sizes),
    )


def current_set(manifests: Iterable[StoredManifest], sizes: Mapping[str, int]) -> BackupSet | None:
    """The newest archive of each shard over all manifests; None without any manifest.

    The newest manifest gives the meta file. For each shard the entry with the greatest
    `last_modified_ns` wins, among equals the one of the newest manifest. Where the original
    skips an archive whose file is gone, and restores an older one or none without a word, we
    keep the older one and list what is missing.
    """
    newest_first = sorted(manifests, key=lambda stored: stored.file_name, reverse=True)
    if not newest_first:
        return None
    present: dict[ShardID, Archive] = {}
    best: dict[ShardID, Archive] = {}
    for stored in newest_first:
        for entry in stored.manifest.files:
            archive = Archive(entry, stored.file_name)
            _keep_newest(best, archive)
            if entry.file_name in sizes:
                _keep_newest(present, archive)
    missing = tuple(a for a in best.values() if a.entry.file_name not in sizes)
    return BackupSet(newest_first[0], present, missing)


def _keep_newest(kept: dict[ShardID, Archive], archive: Archive) -> None:
    held = kept.get(archive.entry.shard_id)
    if held is None or archive.entry.last_modified_ns > held.entry.last_modified_ns:
        kept[archive.entry.shard_id] = archive
