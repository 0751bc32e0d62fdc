"""Record backups that were made outside of Dagster as if a run had made them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from assets.history.asset_history import AssetHistory, Kept, Seen
from assets.history.recording import archive_version, server_version
from assets.metadata.backups import archive_facts, set_facts
from assets.metadata.common import Metadata, place_facts
from assets.partitions import ShardKey
from resources.engine.verify.backup_diff import Succession
from resources.errors import RepositoryError, WireError, counted
from resources.model import Metastore
from resources.repository.backup_set import StoredManifest
from resources.repository.formats.manifest import ShardEntry
from resources.repository.formats.names import parse_file_name
from resources.repository.manifest_cache import ManifestCache

MAX_AT_ONCE = 200
"""The limit of archives that one tick records, which takes a second."""


NUMBER = re.compile(r"[0-9]{1,9}")
"""The number in a cursor; another one is unusable, and the manifest is recorded from its start."""


@dataclass(frozen=True)
class Adopted:
    """How far adoption has come."""

    cursor: str
    """The last recorded manifest, and how many archives of the next one are recorded."""
    text: str
    something: bool = False
    """Whether anything was recorded."""


def adopt(history: AssetHistory, cached: ManifestCache, cursor: str | None) -> Adopted:
    """Record the manifests after the cursor that Dagster does not know.

    Raises:
        RepositoryError: a manifest is damaged, or the directory cannot be read.
    """
    done, _, at = (cursor or "").partition(" ")
    if done and parse_file_name(done) is None:  # a user may write anything there
        done, at = "", ""
    cached.refresh()
    names = sorted(
        n for n in cached.repository.store.names() if n.endswith(".manifest") and n > done
    )
    known = history.restore_points() if names else set()
    recorded, sets, budget = 0, 0, MAX_AT_ONCE
    succession = Succession(cached.repository)
    for name in names:
        if name.removesuffix(".manifest") in known:
            done, at = name, ""
            continue
        stored = cached.manifest(name)
        metastore, trouble = _metastore(cached, stored)
        start = int(at) if NUMBER.fullmatch(at) else 0
        entries = stored.manifest.files[start : start + budget]
        recorded += _record(history, cached, stored, entries, metastore)
        budget -= len(entries)
        if start + len(entries) < len(stored.manifest.files):
            left = len(stored.manifest.files) - start - len(entries)
            return Adopted(
                f"{done} {start + len(entries)}",
                f"{counted(left, 'archive')} of {name} to go",
                bool(recorded),
            )
        sets += 1
        found = set_facts(
            stored,
            cached.repository.location,
            len(cached.archives),
            succession.changes(stored),
            None,
        )
        _record_set(history, cached, stored, {**found, **trouble}, metastore)
        done, at = name, ""
        if budget <= 0:
            break
    text = (
        f"all backups up to {done.removesuffix('.manifest')} are recorded" if done else "no backups"
    )
    if recorded:
        text = f"{counted(recorded, 'archive')} recorded; {text}"
    return Adopted(done, text, bool(recorded or sets))


def _record(
    history: AssetHistory,
    cached: ManifestCache,
    stored: StoredManifest,
    entries: tuple[ShardEntry, ...],
    metastore: Metastore | None,
) -> int:
    """Record the entries that are the newest archive of their shard; older ones do not count."""
    before, newest = history.backed_up(), cached.archives
    places = {place.shard_id: place for place in metastore.places()} if metastore else {}
    found: list[Kept] = []
    for entry in entries:
        place = places.get(entry.shard_id)
        archive = newest.get(entry.shard_id)
        if place is None or archive is None or archive.manifest_file != stored.file_name:
            continue
        key, version = str(ShardKey.of(place)), archive_version(entry)
        if before.get(key) == version:
            continue
        seen = {**place_facts(place), "state": "as in its archive, made outside of Dagster"}
        made = archive_facts(
            entry,
            cached.repository.location,
            stored.manifest.details,
            how="outside of Dagster",
            manifest_file=stored.file_name,
            meta_version=None,
        )
        found.append(Kept(Seen(key, version, seen), made))
    history.add_partitions([kept.seen.partition for kept in found])
    history.back_up(found)
    return len(found)


def _record_set(
    history: AssetHistory,
    cached: ManifestCache,
    stored: StoredManifest,
    found: Metadata,
    metastore: Metastore | None,
) -> None:
    found = {**found, "made": "outside of Dagster"}
    if stored.manifest.limited or metastore is None:
        history.limited_set(found)
        return
    version = server_version(history, metastore)
    if stored is cached.newest:
        history.see_source(version, {"seen": f"by the backup {stored.file_name}"})
    history.whole_set(version, {**found, "meta_snapshot_version": version})


def _metastore(cached: ManifestCache, stored: StoredManifest) -> tuple[Metastore | None, Metadata]:
    """The metastore of a backup, or metadata with the reason why it cannot be read.

    Without it, the places of its shards are unknown; later backups are not affected.
    """
    try:
        return cached.metastore_of(stored), {}
    except (RepositoryError, WireError) as error:
        return None, {"trouble": str(error)}
