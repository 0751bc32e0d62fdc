"""The second copy of a manifest: what is left when the first is damaged or gone.

It is byte for byte the same, is stored right before its manifest, and commits nothing: a
backup exists when its manifest does. A manifest that is damaged is read from its copy. One
that is gone leaves its copy behind, and so does a run that was killed before it committed;
of that one the lock and its stage speak, until what it left is swept.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from resources.errors import ManifestUnreadable, NameMissing, RepositoryError
from resources.repository.formats.manifest import MAX_MANIFEST_BYTES, Manifest
from resources.repository.formats.names import copy_of, parse_file_name
from resources.repository.storage.lock_record import LOCK_NAME, MAX_RECORD_BYTES, LockRecord
from resources.repository.storage.record_file import RecordFile
from resources.repository.storage.store import Store


def read_manifest(store: Store, file_name: str) -> tuple[Manifest, str]:
    """A manifest, and why it had to be read from its copy; empty if it had not.

    Raises:
        ManifestUnreadable, UnsafeName: it is damaged or hostile, and so is its copy, if any.
        NameMissing: it is not there; a copy alone is no manifest.
        StoreFailed: it cannot be read.
    """
    try:
        return decode_file(store, file_name, file_name), ""
    except NameMissing:
        raise
    except RepositoryError as error:
        copy = copy_in(store, file_name)
        if copy is None:
            raise
        return copy, error.what if file_name in error.what else f"{file_name}: {error.what}"


def copy_in(store: Store, file_name: str) -> Manifest | None:
    """What the copy of a manifest says; None if there is none, or it is damaged as well."""
    try:
        found = decode_file(store, copy_of(file_name), file_name)
    except RepositoryError:
        return None
    return found if found.details is not None else None  # else nothing vouches for it


def decode_file(store: Store, file_name: str, manifest_file: str) -> Manifest:
    """Read `file_name`, which is to be that manifest or its copy.

    Raises:
        ManifestUnreadable, UnsafeName: it is damaged, hostile, or another backup's.
        NameMissing, StoreFailed: it cannot be read.
    """
    raw = read_raw(store, file_name)
    found = Manifest.decode(raw, file_name)
    backup = manifest_file.removesuffix(".manifest")
    if found.details is not None and found.meta.file_name != f"{backup}.meta":
        raise ManifestUnreadable(
            f"{file_name} is the manifest of another backup: it names {found.meta.file_name}",
            hint="find out who renamed it; move it out of the directory to work with the others",
        )
    return found


def read_raw(store: Store, file_name: str) -> bytes:
    """The bytes of a manifest or its copy.

    Raises:
        ManifestUnreadable: too many.
        NameMissing, StoreFailed: it cannot be read.
    """
    with store.open(file_name) as source:
        if source.size_bytes > MAX_MANIFEST_BYTES:
            raise ManifestUnreadable(
                f"{file_name}: {source.size_bytes} bytes, limit {MAX_MANIFEST_BYTES}"
            )
        return source.read(source.size_bytes + 1)


def lost_manifests(store: Store, names: Iterable[str] | None = None) -> list[str]:
    """The names of manifests that were there once, of which only the copies are; in order.

    Args:
        names: what the store has said of itself just now.
    """
    alone = _copies_alone(store.names() if names is None else names)
    if alone:
        unfinished = unfinished_backups(store)
        alone &= _copies_alone(store.names())  # not those that were committed meanwhile
        alone -= {f"{backup}.manifest" for backup in unfinished}
    return sorted(alone)


def explain_lost(file_name: str) -> ManifestUnreadable:
    return ManifestUnreadable(
        f"{file_name} is missing, and its copy {copy_of(file_name)} is there",
        hint="shardkeeper verify -repair puts it back; -as-of TIME restores what is older; to do "
        "without that backup, move the copy out of the directory, too",
    )


def unfinished_backups(store: Store) -> set[str]:
    """The backups that runs are making, or left unfinished: as the lock and their stages say.

    A lock that cannot be read says nothing.
    """
    found = store.unfinished()
    with suppress(ManifestUnreadable, ValueError):
        raw = RecordFile(store, LOCK_NAME, max_bytes=MAX_RECORD_BYTES).read()
        if raw is not None:
            found.add(LockRecord.decode(raw).backup)
    return found - {""}


def _copies_alone(names: Iterable[str]) -> set[str]:
    there = {name for name in names if name.endswith((".manifest", ".copy"))}
    copies = (found for name in there if (found := parse_file_name(name)) and found.kind == "copy")
    return {found.backup.manifest_file for found in copies} - there
