"""Has anything changed? A frequent question, so it is answered from the source's own figures.

Each shard has a mark: in a cluster the time it was last modified, on a server its figures at
/debug/vars. Backups move marks, too. So a mark that moved is only a reason to compare the shard
with its archive. The poller remembers the marks of compared shards.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from resources.clients.source import BackupSource
from resources.engine.backup.change_detection import ShardState, source_version
from resources.engine.backup.observed import ObservedSource
from resources.engine.backup.plan import plan_backup
from resources.engine.events import Emit
from resources.engine.options import BackupOptions
from resources.engine.selection import split_named
from resources.errors import BackupNotFound, NothingMatches, WireError
from resources.model import (
    INTERNAL_DATABASE,
    Metastore,
    ShardID,
    ShardLocation,
    ShardPlace,
    is_passing,
)
from resources.protocol.meta import decode_metastore
from resources.repository.manifest_cache import ManifestCache

MAX_COMPARED = 500
"""Shards of a server that one poll compares; each costs a request. Nodes list theirs in one."""


class SourceFingerprint(Struct, frozen=True):
    """What a source reports by itself."""

    observed: ObservedSource
    marks: Mapping[ShardID, str]
    """Of the shards on its disks."""
    digest: str
    """Covers all marks and the databases, policies and users: equal if nothing has moved."""

    @property
    def metastore(self) -> Metastore:
        return self.observed.metastore

    @property
    def places(self) -> list[ShardPlace]:
        """The shards that have marks."""
        return [place for place in self.metastore.places() if place.shard_id in self.marks]


class ChangesFound(Struct, frozen=True):
    """The result of a poll."""

    fingerprint: SourceFingerprint
    changed: tuple[ShardState, ...]
    """Shards that hold something their archive does not; incomplete if `left` is not 0."""
    left: int
    """Shards whose marks moved and that are not compared yet."""
    settings_changed: bool
    """Whether databases, policies or users differ from those of the newest backup."""

    @property
    def something(self) -> bool:
        return bool(self.changed) or self.settings_changed


def fingerprint(source: BackupSource, *, internal: bool) -> SourceFingerprint:
    """Read the figures that move when shards change; the source writes no cache for it.

    Raises:
        WireError: the source cannot be reached, or does not report them.
    """
    seen = ObservedSource(*source.metastore())
    metastore = seen.metastore
    named, _ = split_named(metastore.places())
    places = [
        place
        for place in named
        if (internal or place.database != INTERNAL_DATABASE) and not is_passing(place.database)
    ]
    marks: dict[ShardID, str] = {}
    if source.kind == "cluster":
        inventory = source.inventory(metastore)
        seen = replace(seen, inventory=inventory)
        for place in places:
            times = [c.last_modified_ns or 0 for c in inventory.copies.get(place.shard_id, ())]
            if times:
                marks[place.shard_id] = str(max(times))
    else:
        facts, silence = source.facts(activity=True)
        if silence is not None or facts.clock_ns is None:
            raise WireError(
                f"{source.address}: its HTTP does not answer, so it is not known what has changed",
                hint="set http, user and password in shardkeeper.yaml; or use a schedule",
            ) from silence
        for place in places:
            stats = facts.shards.get(place.shard_id)
            if stats is not None:
                marks[place.shard_id] = (
                    f"{stats.num_files} {stats.disk_bytes} {stats.write_points_ok} "
                    f"{stats.wal_bytes}"
                )
    return SourceFingerprint(seen, marks, source_version(metastore, marks))


class ChangePoller:
    """Polls one source repeatedly.

    Args:
        cache: the manifests of its backups.
    """

    def __init__(self, cache: ManifestCache) -> None:
        self._cache = cache
        self._settled: dict[ShardID, str] = {}
        self._settings = "", ""

    def poll(
        self, source: BackupSource, seen: SourceFingerprint, options: BackupOptions, *, emit: Emit
    ) -> ChangesFound:
        """Compare the shards whose marks moved with their archives.

        Args:
            seen: a fingerprint of the source; later changes are for the next poll.
            options: with `peek` and `internal`.

        Raises:
            ShardkeeperError: the source or the repository cannot be read.
        """
        settings_changed = self._newest_settings() != source_version(seen.metastore, {})
        moved = [i for i, mark in seen.marks.items() if self._settled.get(i) != mark]
        asked = moved[:MAX_COMPARED] if seen.observed.inventory is None else moved
        changed: tuple[ShardState, ...] = ()
        if asked:
            moving = set(asked)
            only = frozenset(
                ShardLocation.of(place) for place in seen.places if place.shard_id in moving
            )
            scanned = replace(options, only=only)
            with suppress(NothingMatches):  # dropped since the fingerprint
                plan = plan_backup(
                    source,
                    self._cache.repository,
                    scanned,
                    emit=emit,
                    seen=seen.observed,
                    cache=self._cache,
                )
                changed = plan.to_copy
            stale = {state.place.shard_id for state in changed}
            self._settled = {i: m for i, m in self._settled.items() if i in seen.marks}
            self._settled |= {i: seen.marks[i] for i in asked if i not in stale}
        return ChangesFound(seen, changed, len(moved) - len(asked), settings_changed)

    def _newest_settings(self) -> str:
        """Of the newest backup; empty if there is none."""
        try:
            backups = self._cache.listed()
        except BackupNotFound:
            return ""
        name = backups.newest.file_name
        if self._settings[0] != name:
            newest = decode_metastore(self._cache.repository.read_meta(backups), groups=False)
            self._settings = name, source_version(newest, {})
        return self._settings[1]
