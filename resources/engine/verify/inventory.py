"""The files in a directory of backups, compared with its manifests.

This module checks that archives exist and their sizes; `resources.engine.verify.verify` reads
them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from typing import Literal

from msgspec import Struct, field

from resources.engine.verify.repair_record import LostArchive, read_lost_archives
from resources.errors import RepositoryError, ShardkeeperError
from resources.model import Metastore
from resources.protocol.meta import decode_metastore
from resources.repository.backup_set import Archive, StoredManifest
from resources.repository.formats.names import (
    RECEIPT_SUFFIX,
    REPAIR_SUFFIX,
    BackupName,
    copy_of,
    parse_file_name,
)
from resources.repository.formats.self_checksum import checksum_matches
from resources.repository.manifest_replica import (
    copy_in,
    decode_file,
    lost_manifests,
    read_raw,
    unfinished_backups,
)
from resources.repository.repository import BackupRepository
from resources.repository.storage.record_file import MAX_RECORD_BYTES

Kind = Literal["manifest", "copy", "meta", "archive", "receipt", "repair", "stray"]


class Problem(Struct, frozen=True):
    """One problem of a file."""

    file_name: str
    what: str
    kind: Kind = "archive"
    listed_by: str = ""
    """The manifest that lists the file, if one does."""

    def __str__(self) -> str:
        return self.what if self.file_name in self.what else f"{self.file_name}: {self.what}"


class Inventory(Struct):
    """The files, and their problems as far as names, sizes and manifests show them."""

    sizes: dict[str, int]
    manifests: list[StoredManifest] = field(default_factory=list[StoredManifest])
    """The readable manifests, oldest first."""
    broken: dict[str, str] = field(default_factory=dict[str, str])
    """Unreadable manifests, which hide the state after them, and why, by file name."""
    archives: dict[str, Archive] = field(default_factory=dict[str, Archive])
    """All listed archives, by file name."""
    metas: dict[str, str] = field(default_factory=dict[str, str])
    """Problems of meta files, by the manifest's file name."""
    bad: dict[str, str] = field(default_factory=dict[str, str])
    """Problems of archives, by file name."""
    lost_archives: dict[str, LostArchive] = field(default_factory=dict[str, LostArchive])
    """Files that an earlier repair recorded as lost, by file name."""
    receipts: int = 0
    problems: list[Problem] = field(default_factory=list[Problem])
    """Problems of all other files."""

    def is_gone(self, file_name: str) -> bool:
        return file_name not in self.sizes


def take_inventory(repository: BackupRepository) -> Inventory:
    """Read every manifest, copy, meta file and receipt; check that every listed file exists.

    Raises:
        RepositoryError: the store itself cannot be read.
    """
    found = Inventory(repository.store.names())
    _manifests(repository, found)
    decoded: set[str] = set()
    for stored in found.manifests:
        _meta(repository, found, stored, decoded)
        for entry in stored.manifest.files:
            found.archives.setdefault(entry.file_name, Archive(entry, stored.file_name))
    for name, archive in found.archives.items():
        if (what := _at_first_sight(archive, found.sizes)) is not None:
            found.bad[name] = what
    found.problems += [*_records(repository, found), *_strays(repository, found)]
    return found


def metastore_of(repository: BackupRepository, stored: StoredManifest) -> Metastore:
    """The metastore in a backup's meta file.

    Raises:
        RepositoryError, WireError: it is damaged or gone.
    """
    return decode_metastore(repository.read_meta_of(stored))


def _manifests(repository: BackupRepository, found: Inventory) -> None:
    lost = set(lost_manifests(repository.store))
    names = {name for name in found.sizes if name.endswith(".manifest")}
    for name in sorted(names | lost):
        if name in lost:
            state = "damaged" if copy_in(repository.store, name) is None else "whole"
            what = f"{name} is missing; its copy is there and {state}"
            found.broken[name] = what
            found.problems.append(Problem(name, what, "manifest"))
            continue
        try:
            stored = repository.manifest(name)
        except RepositoryError as error:
            found.broken[name] = str(error)
            found.problems.append(Problem(name, str(error), "manifest"))
            if copy_of(name) in found.sizes:
                found.problems.append(Problem(copy_of(name), "it is damaged, too", "copy"))
            continue
        found.manifests.append(stored)
        if stored.damage:
            what = f"{stored.damage}; its copy is whole"
            found.problems.append(Problem(name, what, "manifest"))
        elif (what := _copy_trouble(repository, stored)) is not None:
            found.problems.append(Problem(copy_of(name), what, "copy"))


def _copy_trouble(repository: BackupRepository, stored: StoredManifest) -> str | None:
    """A problem of the copy of a sound manifest."""
    details = stored.manifest.details
    if details is None or not details.has_copy:
        return None  # neither other tools nor early versions of ours write one
    name, copy = stored.file_name, copy_of(stored.file_name)
    try:
        if read_raw(repository.store, copy) == read_raw(repository.store, name):
            return None
        decode_file(repository.store, copy, name)
    except RepositoryError as error:
        return str(error)
    return f"{copy} and {name} differ, and both have valid checksums: one of them was changed"


def _meta(
    repository: BackupRepository, found: Inventory, stored: StoredManifest, decoded: set[str]
) -> None:
    """Read a meta file. Most are equal to the one before: `decoded` has the digests of the rest."""
    try:
        raw = repository.read_meta_of(stored)
        digest = hashlib.sha256(raw).hexdigest()
        if digest not in decoded:
            decode_metastore(raw)
            decoded.add(digest)
    except ShardkeeperError as error:
        found.metas[stored.file_name] = str(error)


def _at_first_sight(archive: Archive, sizes: dict[str, int]) -> str | None:
    """A problem of an archive that its size shows."""
    entry, size_bytes = archive.entry, sizes.get(archive.entry.file_name)
    if size_bytes is None:
        return f"listed by {archive.manifest_file} and missing"
    if entry.details is not None and size_bytes != entry.details.stored_bytes:
        return f"{size_bytes} bytes, {archive.manifest_file} says {entry.details.stored_bytes}"
    return "empty" if size_bytes == 0 else None


def _records(repository: BackupRepository, found: Inventory) -> Iterator[Problem]:
    """Receipts and repair records whose checksums do not match."""
    for name, size_bytes in found.sizes.items():
        kind: Kind = "receipt" if name.endswith(RECEIPT_SUFFIX) else "repair"
        is_record = name.endswith((RECEIPT_SUFFIX, REPAIR_SUFFIX))
        if not is_record or BackupName.parse(name[:16]) is None:
            continue
        try:
            with repository.store.open(name) as source:
                raw = source.read(min(size_bytes, MAX_RECORD_BYTES) + 1)
            if not checksum_matches(raw):
                yield Problem(name, "not what was written: its checksum does not match", kind)
            elif kind == "receipt":
                found.receipts += 1
            else:
                found.lost_archives.update(
                    {lost.file_name: lost for lost in read_lost_archives(raw, name)}
                )
        except RepositoryError as error:
            yield Problem(name, str(error), kind)


def _strays(repository: BackupRepository, found: Inventory) -> Iterator[Problem]:
    """Files of backups that no manifest lists, without those of a running backup.

    Files of an unreadable manifest cannot be distinguished from strays, so they are skipped.
    """
    listed = {stored.manifest.meta.file_name for stored in found.manifests}
    listed |= found.archives.keys()
    strays: dict[str, list[str]] = {}
    for name in found.sizes.keys() - listed:
        file = parse_file_name(name)
        if file is None or file.kind in ("manifest", "copy"):
            continue
        if file.backup.manifest_file not in found.broken:
            strays.setdefault(str(file.backup), []).append(name)
    if strays:
        for backup in unfinished_backups(repository.store):
            strays.pop(backup, None)
        new = repository.store.names()  # committed during the inventory?
        known = {stored.file_name for stored in found.manifests}
        for backup, names in sorted(strays.items()):
            if f"{backup}.manifest" in known or f"{backup}.manifest" not in new:
                yield _stray(backup, sorted(names), f"{backup}.manifest" in known)


def _stray(backup: str, names: Collection[str], committed: bool) -> Problem:
    first, more = next(iter(names)), len(names) - 1
    what = first + (f" and {more} more" if more else "")
    if committed:
        return Problem(first, f"{what}: not listed by {backup}.manifest", "stray")
    return Problem(
        first,
        f"{what}: no manifest lists it; the backup {backup} did not finish, or its manifest is "
        "lost",
        "stray",
    )
