"""Has anything changed? Asked often, so answered from what a source says by itself.

Each shard has a mark: for a cluster the time it was last modified, for a server its figures at
/debug/vars. Marks move when backups are made, too, so a mark that moved is a reason to compare
the shard with its archive and nothing more. What was compared is remembered, by mark.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from resources.clients.source import Source
from resources.engine.backup.changes import ShardState, source_version
from resources.engine.backup.plan import Sighting, plan_backup
from resources.engine.events import Tell
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
from resources.repository.watched import WatchedRepository

MOST_COMPARED = 500
"""Shards of a server that one look compares; each costs a request."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What a source says by itself."""

    sighting: Sighting
    marks: Mapping[ShardID, str]
    """Of the shards on its disks."""
    digest: str
    """Of all marks and of the databases, policies and users: equal if nothing has moved."""

    @property
    def metastore(self) -> Metastore:
        return self.sighting.metastore

    @property
    def places(self) -> list[ShardPlace]:
        """The shards that have marks."""
        return [place for place in self.metastore.places() if place.shard_id in self.marks]


@dataclass(frozen=True, slots=True)
class Watch:
    """What a look found."""

    glance: Glance
    changed: tuple[ShardState, ...]
    """Shards that hold something their archive does not; not all of them, if `left` is not 0."""
    left: int
    """Shards that moved and are yet to be compared."""
    settings_changed: bool
    """Databases, policies or users are not those of the newest backup."""

    @property
    def something(self) -> bool:
        return bool(self.changed) or self.settings_changed


def glance(source: Source, *, internal: bool) -> Glance:
    """Ask what moves when shards change; nothing is written out for it.

    Raises:
        WireError: the source cannot be reached, or cannot tell.
    """
    seen = Sighting(*source.metastore())
    metastore = seen.metastore
    named, _ = split_named(metastore.places())
    places = [
        place
        for place in named
        if (internal or place.database != INTERNAL_DATABASE) and not is_passing(place.database)
    ]
    marks: dict[ShardID, str] = {}
    if source.kind == "cluster":
        holdings = source.holdings(metastore)
        seen = replace(seen, holdings=holdings)
        for place in places:
            times = [c.last_modified_ns or 0 for c in holdings.copies.get(place.shard_id, ())]
            if times:
                marks[place.shard_id] = str(max(times))
    else:
        facts, silence = source.facts(activity=True)
        if silence is not None or facts.clock_ns is None:
            raise WireError(
                f"{source.address}: its HTTP does not answer, so it cannot tell what has changed",
                hint="set http, user and password in shardkeeper.yaml; or back up by the clock",
            ) from silence
        for place in places:
            stats = facts.shards.get(place.shard_id)
            if stats is not None:
                marks[place.shard_id] = (
                    f"{stats.num_files} {stats.disk_bytes} {stats.write_points_ok} "
                    f"{stats.wal_bytes}"
                )
    return Glance(seen, marks, source_version(metastore, marks))


class Watcher:
    """Looks at one source again and again.

    Args:
        repository: where its backups are.
    """

    def __init__(self, repository: WatchedRepository) -> None:
        self._repository = repository
        self._settled: dict[ShardID, str] = {}
        self._settings = "", ""

    def look(self, source: Source, seen: Glance, options: BackupOptions, *, tell: Tell) -> Watch:
        """Compare what has moved with its archives.

        Args:
            seen: a glance at the source; what moves after it is for the next look.
            options: with `peek` and `internal`.

        Raises:
            ShardkeeperError: the source or the repository cannot be read.
        """
        settings_changed = self._newest_settings() != source_version(seen.metastore, {})
        moved = [i for i, mark in seen.marks.items() if self._settled.get(i) != mark]
        asked = moved if source.kind == "cluster" else moved[:MOST_COMPARED]
        changed: tuple[ShardState, ...] = ()
        if asked:
            moving = set(asked)
            only = frozenset(
                ShardLocation.of(place) for place in seen.places if place.shard_id in moving
            )
            looked = replace(options, only=only)
            with suppress(NothingMatches):  # dropped since the glance
                plan = plan_backup(source, self._repository, looked, tell=tell, seen=seen.sighting)
                changed = plan.to_copy
            stale = {state.place.shard_id for state in changed}
            self._settled = {i: m for i, m in self._settled.items() if i in seen.marks}
            self._settled |= {i: seen.marks[i] for i in asked if i not in stale}
        return Watch(seen, changed, len(moved) - len(asked), settings_changed)

    def _newest_settings(self) -> str:
        """Of the newest backup; empty if there is none."""
        try:
            backups = self._repository.current()
        except BackupNotFound:
            return ""
        name = backups.newest.file_name
        if self._settings[0] != name:
            newest = decode_metastore(self._repository.read_meta(backups), groups=False)
            self._settings = name, source_version(newest, {})
        return self._settings[1]
