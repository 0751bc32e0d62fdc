"""What a restore would read: one meta file and the newest archive of every shard.

`current_set` reads a directory of incremental backups as the original tools do (influxdb
cmd/influxd/backup_util, LoadIncremental); `single_set` reads one manifest alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from resources.model import ShardID
from resources.repository.formats.manifest import Manifest, MetaEntry, ShardEntry
from resources.repository.formats.proof import Proof, ProvenAgain

_Content = tuple[str, str, ShardID, str]


class StoredManifest(Struct, frozen=True):
    """A manifest and the name it is stored under."""

    file_name: str
    manifest: Manifest
    damage: str = ""
    """What is wrong with the file, if the manifest had to be read from its copy."""

    @property
    def note(self) -> str:
        """The damage and what came of it, as one line."""
        return (
            f"{self.damage}; it was read from its copy, and shardkeeper verify -repair puts it "
            "right"
        )


class Archive(Struct, frozen=True):
    """A shard's archive and the manifest that lists it."""

    entry: ShardEntry
    manifest_file: str
    proven_again: Proof | None = None
    """What held when a later backup found that the shard is still what the archive holds."""

    @property
    def may_be_damaged(self) -> bool:
        """Whether files in it came damaged from their server, as far as is known."""
        details = self.entry.details
        return details is None or bool(details.damaged)

    @property
    def proof(self) -> Proof | None:
        """The newest one."""
        details = self.entry.details
        return self.proven_again or (details.proof if details else None)


class BackupSet(Struct, frozen=True):
    """Everything that restoring takes, by name; nothing is opened yet."""

    newest: StoredManifest
    archives: Mapping[ShardID, Archive]
    missing: tuple[Archive, ...]
    """Listed by a manifest as a shard's newest archive, and not in the store."""
    replaced: tuple[Archive, ...] = ()
    """Missing as well; archives of the same content, from other backups, take their place."""
    from_copies: tuple[StoredManifest, ...] = ()
    """Manifests that are damaged, and were read from their copies."""
    before: str = ""
    """The era of the backups before the newest, if that one does not say."""
    sizes: Mapping[str, int] | None = None
    """The store's files when the set was made, with their sizes; None: it was not listed."""

    @property
    def era(self) -> str:
        """The backup that its era began with; empty: the first one."""
        return era_of(self.newest, self.before)

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
        from_copies=(stored,) if stored.damage else (),
        sizes=sizes,
    )


def era_of(stored: StoredManifest, before: str) -> str:
    """The backup that a manifest's era began with; empty: the first era.

    Args:
        before: the era of the backup before it, in which those of other tools are, too.
    """
    details = stored.manifest.details
    return before if details is None else details.era


def newest_era(newest_first: Sequence[StoredManifest]) -> list[StoredManifest]:
    """The backups of the era that the newest one belongs to; shard ids mean something there."""
    kept: list[StoredManifest] = []
    era = ""
    for stored in reversed(newest_first):
        this = era_of(stored, era)
        if this != era:
            kept, era = [], this
        kept.append(stored)
    return kept[::-1]


def current_set(manifests: Iterable[StoredManifest], sizes: Mapping[str, int]) -> BackupSet | None:
    """The newest archive of each shard over all manifests; None without any manifest.

    Only those of the newest one's era are read: in another one the same numbers are other shards
    (docs/decisions/0015-a-repository-holds-eras.md).

    The newest manifest gives the meta file. For each shard the entry with the greatest
    `last_modified_ns` wins, among equals the one of the newest manifest. Where the original
    skips an archive whose file is gone, and restores an older one or none without a word, we
    keep the older one and list what is missing.
    """
    newest_first = sorted(manifests, key=lambda stored: stored.file_name, reverse=True)
    if not newest_first:
        return None
    newest_first = newest_era(newest_first)
    present: dict[ShardID, Archive] = {}
    best: dict[ShardID, Archive] = {}
    proven: dict[ShardID, ProvenAgain] = {}
    for stored in newest_first:
        for entry in stored.manifest.files:
            archive = Archive(entry, stored.file_name)
            keep_newest(best, archive)
            if entry.file_name in sizes:
                keep_newest(present, archive)
        for shard in proven_by(stored):
            proven.setdefault(shard.shard_id, shard)
    for shard in proven.values():
        note_proof(present, shard)
    missing = tuple(a for a in best.values() if a.entry.file_name not in sizes)
    from_copies = tuple(stored for stored in newest_first if stored.damage)
    eras = [m.manifest.details.era for m in newest_first if m.manifest.details]
    return BackupSet(
        newest_first[0],
        present,
        missing,
        from_copies=from_copies,
        before=(eras or [""])[0],
        sizes=sizes,
    )


def keep_newest(kept: dict[ShardID, Archive], archive: Archive) -> None:
    """Note an archive if it counts more than the one that is noted for its shard."""
    held = kept.get(archive.entry.shard_id)
    if held is None or _order(archive) > _order(held):
        kept[archive.entry.shard_id] = archive


def proven_by(stored: StoredManifest) -> tuple[ProvenAgain, ...]:
    """The shards that this backup found to be as in their archives."""
    details = stored.manifest.details
    return details.proven_again if details else ()


def note_proof(kept: dict[ShardID, Archive], shard: ProvenAgain) -> None:
    """Note that a shard is as in its archive, if that is the one that is noted for it."""
    held = kept.get(shard.shard_id)
    if held and held.entry.details and held.entry.details.content == shard.content:
        kept[shard.shard_id] = replace(held, proven_again=shard.proof)


def _order(archive: Archive) -> tuple[int, str]:
    """The later change counts, then the later backup."""
    return archive.entry.last_modified_ns, archive.manifest_file


def substitutes(missing: Iterable[Archive], there: Iterable[Archive]) -> dict[str, Archive]:
    """Archives that hold the very same files as missing ones, by the file name of those.

    Of several the one that comes last. A shard that did not change between two backups has such
    archives.
    """
    by_content: dict[_Content, Archive] = {}
    for archive in there:
        if (content := _content(archive)) is not None:
            by_content[content] = archive
    found = ((a.entry.file_name, by_content.get(c)) for a in missing if (c := _content(a)))
    return {name: substitute for name, substitute in found if substitute is not None}


def with_substitutes(
    backup: BackupSet, manifests: Iterable[StoredManifest], sizes: Mapping[str, int]
) -> BackupSet:
    """The set with twins in the place of archives that are missing, where there are any."""
    listed = (Archive(entry, m.file_name) for m in manifests for entry in m.manifest.files)
    found = substitutes(backup.missing, (a for a in listed if a.entry.file_name in sizes))
    return replace(
        backup,
        archives={
            **backup.archives,
            **{substitute.entry.shard_id: substitute for substitute in found.values()},
        },
        missing=tuple(a for a in backup.missing if a.entry.file_name not in found),
        replaced=tuple(a for a in backup.missing if a.entry.file_name in found),
    )


def _content(archive: Archive) -> _Content | None:
    entry = archive.entry
    if entry.details is None:
        return None
    return entry.database, entry.policy, entry.shard_id, entry.details.content
