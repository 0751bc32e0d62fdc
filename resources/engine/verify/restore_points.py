"""The states that a directory of backups can still restore, and the gaps of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from resources.engine.verify.inventory import Inventory
from resources.errors import ShardkeeperError
from resources.model import Metastore, ShardID
from resources.repository.backup_set import (
    Archive,
    StoredManifest,
    era_of,
    keep_newest,
    substitutes,
)
from resources.repository.formats.manifest import ShardEntry


class UnrestorableShard(Struct, frozen=True):
    """A shard that cannot be restored as it was in a state."""

    database: str
    policy: str
    shard_id: ShardID
    start_ns: int | None
    end_ns: int | None
    """Its group's time range, end exclusive; None if the metastore cannot be read."""
    file_name: str
    """The archive that is damaged or missing; empty if there is none or its name is unknown."""
    instead: str
    """The newest earlier backup whose state restores the shard, if one does (`-as-of`)."""


class RestorePoint(Struct, frozen=True):
    """The state of a backup: what `restore -as-of` with its name reads."""

    name: str
    trouble: str = ""
    """Why nothing of it can be restored; empty if that is not so."""
    gaps: tuple[UnrestorableShard, ...] = ()

    @property
    def whole(self) -> bool:
        return not self.trouble and not self.gaps


class DatabaseState(Struct, frozen=True):
    """How much of a database the newest state restores."""

    name: str
    shards: int
    """Shards that have archives, or should."""
    unrestorable: int


def restore_points(
    found: Inventory, metastore_of: Callable[[StoredManifest], Metastore]
) -> tuple[tuple[RestorePoint, ...], tuple[DatabaseState, ...]]:
    """Every state, oldest first, and the databases of the newest.

    Args:
        found: the inventory with all known problems.
        metastore_of: reads the metastore of a backup; called only for states with gaps, and for
            the newest.
    """
    states = _States(found, metastore_of)
    names = sorted({stored.file_name for stored in found.manifests} | found.broken.keys())
    by_name = {stored.file_name: stored for stored in found.manifests}
    points = tuple(states.after(name, by_name.get(name)) for name in names)
    return points, states.databases(points)


class _States:
    """The state of the directory as manifests are added, oldest first."""

    def __init__(
        self, found: Inventory, metastore_of: Callable[[StoredManifest], Metastore]
    ) -> None:
        self._found = found
        self._metastore_of = metastore_of
        self._best: dict[ShardID, Archive] = {}
        self._last_good: dict[ShardID, str] = {}
        self._broken = ""
        self._newest: StoredManifest | None = None
        self._era = ""
        gone = (a for a in found.archives.values() if found.is_gone(a.entry.file_name))
        there = (a for a in found.archives.values() if not found.is_gone(a.entry.file_name))
        taken = substitutes(gone, there)  # sound or not: a restore checks them
        self._lost = {
            name
            for name in found.bad
            if name not in taken or taken[name].entry.file_name in found.bad
        }
        self._suspects = {found.archives[name].entry.shard_id for name in self._lost}

    def after(self, name: str, stored: StoredManifest | None) -> RestorePoint:
        """The state after this manifest; `stored` is None if it cannot be read."""
        point = name.removesuffix(".manifest")
        self._broken = self._broken or self._found.broken.get(name, "")
        if stored is None:
            return RestorePoint(point, self._broken)
        self._newest = stored
        era = era_of(stored, self._era)
        if era != self._era:  # in a new era the same IDs are other shards
            self._best, self._last_good, self._era = {}, {}, era
        for entry in stored.manifest.files:
            keep_newest(self._best, Archive(entry, name))
        trouble = self._broken or self._found.metas.get(name, "")
        unrestorable = self._unrestorable_shards(stored)
        places = self._places(stored) if unrestorable and not trouble else None
        gaps = tuple(
            self._unrestorable(shard_id, places)
            for shard_id in unrestorable
            if places is None or shard_id in places
        )
        if not trouble:
            unrestorable_ids = {shard.shard_id for shard in gaps}
            for shard_id in self._suspects - unrestorable_ids:
                if shard_id in self._best:
                    self._last_good[shard_id] = point
        return RestorePoint(point, trouble, gaps)

    def databases(self, points: tuple[RestorePoint, ...]) -> tuple[DatabaseState, ...]:
        """The databases of the newest state; none if its metastore cannot be read."""
        if self._newest is None or not points or points[-1].trouble:
            return ()
        unrestorable_ids = {shard.shard_id for shard in points[-1].gaps}
        counts: dict[str, list[ShardID]] = {}
        try:
            metastore = self._metastore_of(self._newest)
        except ShardkeeperError:
            return ()
        for place in metastore.places():
            if place.shard_id in self._best or place.shard_id in unrestorable_ids:
                counts.setdefault(place.database, []).append(place.shard_id)
        return tuple(
            DatabaseState(name, len(ids), sum(i in unrestorable_ids for i in ids))
            for name, ids in sorted(counts.items())
        )

    def _unrestorable_shards(self, stored: StoredManifest) -> list[ShardID]:
        """Shards without a sound archive, including those that the metastore no longer has."""
        details = stored.manifest.details
        named = (
            (*details.unchanged, *(shard.shard_id for shard in details.failed)) if details else ()
        )
        unrestorable = {shard_id for shard_id in named if shard_id not in self._best}
        self._suspects |= unrestorable
        unrestorable |= {
            shard_id
            for shard_id in self._suspects
            if (archive := self._best.get(shard_id)) and archive.entry.file_name in self._lost
        }
        return sorted(unrestorable)

    def _places(self, stored: StoredManifest) -> Mapping[ShardID, UnrestorableShard]:
        """The shards of a metastore, without their files."""
        return {
            place.shard_id: UnrestorableShard(
                place.database,
                place.policy,
                place.shard_id,
                place.group.start_time_ns,
                place.group.end_time_ns,
                "",
                "",
            )
            for place in self._metastore_of(stored).places()
        }

    def _unrestorable(
        self, shard_id: ShardID, places: Mapping[ShardID, UnrestorableShard] | None
    ) -> UnrestorableShard:
        archive = self._best.get(shard_id)
        entry = archive.entry if archive else None
        known = places[shard_id] if places is not None else _of_entry(shard_id, entry)
        return UnrestorableShard(
            known.database,
            known.policy,
            shard_id,
            known.start_ns,
            known.end_ns,
            entry.file_name if entry else "",
            self._last_good.get(shard_id, ""),
        )


def _of_entry(shard_id: ShardID, entry: ShardEntry | None) -> UnrestorableShard:
    database, policy = (entry.database, entry.policy) if entry else ("", "")
    details = entry.details if entry else None
    start_ns = details.group_start_ns if details else None
    return UnrestorableShard(
        database, policy, shard_id, start_ns, details.group_end_ns if details else None, "", ""
    )


def newest_whole(points: Iterable[RestorePoint]) -> str:
    """The newest state that can be restored completely; empty if there is none."""
    return max((point.name for point in points if point.whole), default="")
