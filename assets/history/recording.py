"""Record the engine's plans and reports as Dagster events."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from assets.history.asset_history import AssetHistory, Kept, Seen
from assets.history.gone_shards import settle_gone
from assets.metadata.backups import archive_facts
from assets.metadata.common import place_facts
from assets.metadata.restores import restored_shard_facts
from assets.metadata.scans import state_facts
from assets.partitions import ShardKey
from resources.engine.backup.change_detection import ShardState, content_version, source_version
from resources.engine.backup.plan import BackupPlan
from resources.engine.backup.run import BackupReport, Saved
from resources.engine.restore.restored import RestoreReport
from resources.errors import UsageError
from resources.model import Metastore, ShardID, ShardPlace
from resources.repository.backup_set import Archive
from resources.repository.formats.details import BackupDetails
from resources.repository.formats.manifest import ShardEntry
from resources.repository.manifest_cache import ManifestCache

EARLIER = "earlier; found unchanged in this run"


def record_scan(
    history: AssetHistory, plan: BackupPlan, archives: Mapping[ShardID, Archive]
) -> tuple[str, dict[str, Archive | None]]:
    """Record what is new since the last scan.

    Only changes are written: a scan of an idle server writes no events.

    Args:
        archives: the newest of each shard.

    Returns:
        The version of the whole server, and the shards that are gone from it.
    """
    gone = settle_gone(history, plan.metastore, archives)
    seen = by_partition(history, plan.states)
    history.add_partitions(seen)
    before = history.observed()
    history.observe(
        [
            Seen(key, state.version, state_facts(state))
            for key, state in seen.items()
            if before.get(key) != state.version
        ]
    )
    return server_version(history, plan.metastore), gone


def by_partition(history: AssetHistory, states: Iterable[ShardState]) -> dict[str, ShardState]:
    """The shards that have a partition or get one.

    A node that does not answer may hold any shard that it owns, and most shards that were never
    seen are only planned ahead. Their partitions would stay "Missing" for ever.
    """
    known = set(history.partitions())
    keyed = {str(ShardKey.of(state.place)): state for state in states}
    return {key: state for key, state in keyed.items() if key in known or not state.trouble}


def record_backup(
    history: AssetHistory,
    report: BackupReport,
    cached: ManifestCache,
    *,
    archives: Mapping[ShardID, Archive],
    seen_before: Mapping[str, str],
    planned: bool = False,
) -> None:
    """Record a committed backup: the copied shards, and those it found up to date.

    An unchanged shard is recorded if Dagster does not know its archive yet, because another tool
    made it, or a run that ended before it could record it. Its last observation is corrected if
    it is older than this backup: then it came from a scan that began before the archive existed.
    Observations that others made meanwhile are newer and stay.

    Args:
        archives: the newest of each shard, as far as known.
        seen_before: the observations in `history` when the backup began.
        planned: whether Dagster expects an event for each shard of the run, copied or not; it
            counts shards without one as failed.
    """
    copied = {str(ShardKey.of(saved.state.place)): saved for saved in report.saved}
    unchanged = {str(ShardKey.of(state.place)): state for state in report.unchanged}
    history.add_partitions([*copied, *unchanged])
    before, seen_now = history.backed_up(), history.observed()
    unknown = {
        key: state
        for key, state in unchanged.items()
        if state.previous is not None and (planned or before.get(key) != state.version)
    }
    history.observe(
        [
            Seen(key, state.version, state_facts(state))
            for key, state in unchanged.items()
            if key not in unknown and seen_before.get(key) == seen_now.get(key) != state.version
        ]
    )
    seen_as = history.source_version()
    fresh = _kept_now(copied, report, cached, seen_as)
    history.back_up(fresh + _kept_earlier(unknown, cached, seen_as))
    settle_gone(history, report.metastore, archives)


def _kept_now(
    copied: Mapping[str, Saved],
    report: BackupReport,
    cached: ManifestCache,
    meta_version: str | None,
) -> list[Kept]:
    """The archives that this backup wrote, by partition."""
    return [
        Kept(
            Seen(
                key,
                content_version(saved.entry.details),
                {**place_facts(saved.state.place), "state": "as in its archive"},
            ),
            archive_facts(
                saved.entry,
                cached.repository.location,
                report.manifest.details,
                how="in this run",
                manifest_file=report.manifest_file,
                meta_version=meta_version,
            ),
        )
        for key, saved in copied.items()
        if saved.entry.details is not None
    ]


def _kept_earlier(
    unchanged: Mapping[str, ShardState], cached: ManifestCache, meta_version: str | None | None
) -> list[Kept]:
    """The archives of earlier backups that are up to date, by partition."""
    made_by = _Makers(cached)
    return [
        Kept(
            Seen(key, state.version, state_facts(state)),
            archive_facts(
                state.previous.entry,
                cached.repository.location,
                made_by[state.previous.manifest_file],
                how=EARLIER,
                manifest_file=state.previous.manifest_file,
                meta_version=meta_version,
            ),
        )
        for key, state in unchanged.items()
        if state.previous is not None
    ]


class _Makers(dict[str, BackupDetails | None]):
    """By manifest, the details of its backup; each manifest is read once."""

    def __init__(self, cached: ManifestCache) -> None:
        self._cached = cached

    def __missing__(self, manifest_file: str) -> BackupDetails | None:
        self[manifest_file] = found = self._cached.manifest(manifest_file).manifest.details
        return found


def server_version(
    history: AssetHistory, metastore: Metastore, news: Mapping[ShardID, str] | None = None
) -> str:
    """The version of the whole server, from the last observations of its shards.

    Args:
        news: versions that were seen but not recorded.
    """
    seen = history.observed()
    keys = {str(ShardKey.of(place)): place.shard_id for place in metastore.places()}
    known = {shard_id: seen[key] for key, shard_id in keys.items() if key in seen}
    return source_version(metastore, {**known, **(news or {})})


def left_behind(
    history: AssetHistory, metastore: Metastore, failed: Collection[ShardID] = ()
) -> tuple[list[ShardPlace], list[ShardPlace]]:
    """(the known shards, those whose archive differs from their last observation).

    Args:
        failed: shards that could not be copied just now.
    """
    seen, saved = history.observed(), history.backed_up()
    known = [(str(ShardKey.of(place)), place) for place in metastore.places()]
    there = [(key, place) for key, place in known if key in seen or place.shard_id in failed]
    left = [
        place for key, place in there if place.shard_id in failed or seen.get(key) != saved.get(key)
    ]
    return [place for _, place in there], left


def record_restore(history: AssetHistory, report: RestoreReport, target: str) -> None:
    """Record each shard that is on the target and was read back from it."""
    found = restored_shard_facts(report, target)
    restored = {str(ShardKey.of(done.restore.place)): done.restore for done in report.shards}
    history.add_partitions(restored)
    shards: list[Seen] = []
    for key, shard in restored.items():
        entry = shard.archive.entry
        version = archive_version(entry)
        shards.append(Seen(key, version, {**found[entry.file_name], "shard_version": version}))
    history.restore(shards)


def archive_version(entry: ShardEntry) -> str:
    """The version that an archive represents; one without details equals no shard."""
    return content_version(entry.details) if entry.details else f"none+{entry.file_name}"


def shard_keys(partitions: Sequence[str]) -> dict[str, ShardKey]:
    """Parse partition keys.

    Raises:
        UsageError: there is none, or one is not a shard's key.
    """
    if not partitions:
        raise UsageError(
            "no partition was chosen", hint="choose the shards to back up in the launch dialog"
        )
    return {key: ShardKey.parse(key) for key in partitions}
