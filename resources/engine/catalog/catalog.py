"""What a repository holds: its backups, and for each shard the archive that a restore would read.

Everything is derived from the files of the repository; no archive is read. A manifest that cannot
be read is named, and the others are listed all the same: an operator in need of a backup must
see what there is. The state that a restore would read is listed only if every manifest can be read,
as in `BackupRepository.current`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from msgspec import Struct

from resources.engine.catalog.restore_proofs import RestoreProof, restore_proofs
from resources.errors import RepositoryError
from resources.model import Metastore, ShardID, ShardPlace
from resources.protocol.meta import decode_metastore
from resources.repository.backup_set import Archive, BackupSet, StoredManifest
from resources.repository.formats.details import SourceInfo
from resources.repository.formats.manifest import Limits, ShardEntry
from resources.repository.formats.names import BackupName
from resources.repository.manifest_replica import lost_manifests
from resources.repository.repository import BackupRepository

Grade = Literal["proven", "verified", "structure", "adopted", "damaged", "missing"]
"""How much is known of an archive; see `grade_of`."""
Strategy = Literal["full", "incremental", "only-meta", "other tool"]


class ListedBackup(Struct, frozen=True):
    """One backup, as its manifest describes it."""

    name: str
    started_ns: int
    strategy: Strategy
    limits: Limits
    source: SourceInfo | None
    """None if another tool wrote it."""
    era: str
    entries: tuple[ShardEntry, ...]
    missing: tuple[str, ...]
    """Files that the manifest lists, and that are not there or have another size."""
    unchanged: int
    failed: tuple[ShardID, ...]
    damage: str
    """What is wrong with the manifest itself, if its copy was read instead."""

    @property
    def stored_bytes(self) -> int | None:
        """Size of its archives; None if another tool wrote it, which does not say."""
        return _sum(e.details.stored_bytes if e.details else None for e in self.entries)

    @property
    def values(self) -> int | None:
        """Field values in its archives, as stored; None if some were not counted."""
        return _sum(e.details.points if e.details else None for e in self.entries)

    @property
    def is_complete(self) -> bool:
        """Whether it saved everything it was to save, and has it still."""
        damaged = any(e.details and e.details.damaged for e in self.entries)
        return not (self.failed or self.missing or damaged)


class ListedShard(Struct, frozen=True):
    """A shard, and the archive that a restore would read."""

    shard_id: ShardID
    database: str
    policy: str
    place: ShardPlace | None
    """None if the newest metastore does not know the shard any more."""
    entry: ShardEntry
    manifest_file: str
    grade: Grade
    proof: RestoreProof | None
    """The newest restore that read this archive back from its target."""

    @property
    def backup(self) -> str:
        return self.manifest_file.removesuffix(".manifest")


class Catalog(Struct, frozen=True):
    """The backups of a repository, newest first, and its state.

    Attributes:
        unreadable: why a manifest cannot be read, by its file name.
        shards: of the state; none if there is none, or if a manifest is unreadable.
    """

    backups: tuple[ListedBackup, ...]
    unreadable: Mapping[str, str]
    shards: tuple[ListedShard, ...]


def read_catalog(repository: BackupRepository, *, as_of: datetime | None = None) -> Catalog:
    """List the backups, and the state that a restore would read.

    Args:
        as_of: list only backups that began then or earlier, and the state of that time.

    Raises:
        RepositoryError: the directory cannot be read; there is no backup in it, or none that old;
            the newest meta file is gone or is not the one that was stored.
        WireError: the newest metastore cannot be decoded.
    """
    sizes = repository.store.names()
    until = None if as_of is None else BackupName.of(as_of).manifest_file
    stored: list[StoredManifest] = []
    unreadable: dict[str, str] = {}
    for name in sorted((name for name in sizes if name.endswith(".manifest")), reverse=True):
        if until is not None and name > until:
            continue
        try:
            stored.append(repository.manifest(name))
        except RepositoryError as error:
            unreadable[name] = error.what
    for name in lost_manifests(repository.store, sizes):
        if until is None or name <= until:
            unreadable[name] = "it is missing, and its copy is there"
    backups = tuple(list_backup(one, sizes) for one in stored)
    if unreadable:
        return Catalog(backups, unreadable, ())
    state = repository.current(as_of=as_of)
    metastore = decode_metastore(repository.read_meta(state))
    return Catalog(backups, {}, list_shards(state, metastore, sizes, restore_proofs(repository)))


def list_backup(stored: StoredManifest, sizes: Mapping[str, int]) -> ListedBackup:
    """What a manifest says of its backup, and which of its files are there.

    Args:
        sizes: of all files in the repository, by name.
    """
    manifest = stored.manifest
    details = manifest.details
    name = BackupName.parse(stored.file_name.removesuffix(".manifest"))
    started_ns = 0 if name is None else int(name.started_at.timestamp()) * 1_000_000_000
    meta = () if manifest.meta.file_name in sizes else (manifest.meta.file_name,)
    return ListedBackup(
        name=stored.file_name.removesuffix(".manifest"),
        started_ns=details.started_at_ns if details else started_ns,
        strategy=details.strategy if details else "other tool",
        limits=manifest.limits,
        source=details.source if details else None,
        era=details.era if details else "",
        entries=manifest.files,
        missing=(*meta, *(e.file_name for e in manifest.files if not is_there(e, sizes))),
        unchanged=len(details.unchanged) if details else 0,
        failed=tuple(shard.shard_id for shard in details.failed) if details else (),
        damage=stored.damage,
    )


def is_there(entry: ShardEntry, sizes: Mapping[str, int]) -> bool:
    """Whether the archive is in the repository, with the size that was stored."""
    size_bytes = sizes.get(entry.file_name)
    if entry.details is None:
        return size_bytes is not None
    return size_bytes == entry.details.stored_bytes


def list_shards(
    state: BackupSet,
    metastore: Metastore,
    sizes: Mapping[str, int],
    proofs: Mapping[str, RestoreProof],
) -> tuple[ListedShard, ...]:
    """The shards of a state, by database, policy and number; those without an archive, too.

    Args:
        proofs: restores that were read back, by the SHA-256 of the archive.
    """
    places = {place.shard_id: place for place in metastore.places()}
    archives = [*state.archives.values(), *state.missing]
    shards = [
        ListedShard(
            shard_id=archive.entry.shard_id,
            database=archive.entry.database,
            policy=archive.entry.policy,
            place=places.get(archive.entry.shard_id),
            entry=archive.entry,
            manifest_file=archive.manifest_file,
            grade=grade_of(archive, sizes, proofs),
            proof=_proof_of(archive.entry, proofs),
        )
        for archive in archives
    ]
    return tuple(sorted(shards, key=lambda s: (s.database, s.policy, s.shard_id, s.manifest_file)))


def grade_of(
    archive: Archive, sizes: Mapping[str, int], proofs: Mapping[str, RestoreProof]
) -> Grade:
    """How much is known of an archive.

    - missing: it is not there, or has another size.
    - damaged: parts of it came damaged from the server, and are marked so.
    - proven: a restore read it back from the target, and found what was sent.
    - verified: every block was checked when it was stored.
    - structure: the files' structure was checked, the blocks were not.
    - adopted: another tool wrote it, and no check of ours is on record.
    """
    entry = archive.entry
    if not is_there(entry, sizes):
        return "missing"
    if entry.details is None:
        return "adopted"
    if entry.details.damaged:
        return "damaged"
    if _proof_of(entry, proofs) is not None:
        return "proven"
    return "verified" if entry.details.checked == "full" else "structure"


def _proof_of(entry: ShardEntry, proofs: Mapping[str, RestoreProof]) -> RestoreProof | None:
    return proofs.get(entry.details.sha256) if entry.details else None


def _sum(counts: Iterable[int | None]) -> int | None:
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total
