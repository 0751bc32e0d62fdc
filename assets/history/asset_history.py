"""A server's shards in Dagster's event log, read and written.

Dagster derives staleness from versions and provenance. For our events it cannot know either,
because one run backs up many shards, each with its own version. So we write both: the event of a
backup points to the observation of its shard, and the backup is stale as soon as a later
observation has another version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import dagster as dg

from assets.history.event_log import EventLog
from assets.history.public_calls import VERSION, Context
from assets.keys import CODE_VERSION, ClusterAssets

MAX_RESTORE_POINTS = 1000
MAX_REMEMBERED = 20
OURS = "dagster/data_version_is_user_provided"

Metadata = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """The state of a shard at the source."""

    partition: str
    version: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Kept:
    """A shard whose backup has exactly the version that was seen."""

    seen: Seen
    metadata: Metadata
    """Of the archive."""


class AssetHistory:
    """The events of one cluster's assets.

    Args:
        context: the step whose events are written; None outside of runs.
    """

    def __init__(
        self, instance: dg.DagsterInstance, cluster_assets: ClusterAssets, context: Context | None
    ) -> None:
        self._instance = instance
        self._cluster_assets = cluster_assets
        self._log = EventLog(instance, context)

    @classmethod
    def of_run(cls, context: Context, cluster_assets: ClusterAssets) -> AssetHistory:
        """The history for a step of a run, to which written events belong."""
        return cls(context.instance, cluster_assets, context)

    @classmethod
    def outside(cls, instance: dg.DagsterInstance, cluster_assets: ClusterAssets) -> AssetHistory:
        """The history for a sensor; written events belong to no run."""
        return cls(instance, cluster_assets, None)

    # --- reading ---------------------------------------------------------------------------

    def observed(self) -> dict[str, str]:
        """By partition, the version in the shard's last observation."""
        return self._log.versions(
            self._cluster_assets.shards, dg.DagsterEventType.ASSET_OBSERVATION
        )

    def newest_observation(self) -> int:
        """The storage id of the newest observation of any shard; 0: none."""
        kind = dg.DagsterEventType.ASSET_OBSERVATION
        return max(self._log.newest_ids(self._cluster_assets.shards, kind).values(), default=0)

    def observed_until(self, newest: int) -> dict[str, str]:
        """As `observed`, of the shards whose last observation is not newer than that one."""
        kind = dg.DagsterEventType.ASSET_OBSERVATION
        found = self.observed()
        ids = self._log.newest_ids(self._cluster_assets.shards, kind)
        return {key: version for key, version in found.items() if ids.get(key, newest) <= newest}

    def backed_up(self) -> dict[str, str]:
        """By partition, the version of the shard's last backup."""
        return self._log.versions(
            self._cluster_assets.shard_backup, dg.DagsterEventType.ASSET_MATERIALIZATION
        )

    def version(self, key: dg.AssetKey) -> str | None:
        """The version of an asset without partitions."""
        event = self._instance.get_latest_materialization_event(key)
        seen = event.asset_materialization if event else None
        return (seen.tags or {}).get(VERSION) if seen else None

    def source_version(self) -> str | None:
        """The version of the whole server in its last observation."""
        return self.version(self._cluster_assets.meta_snapshot)

    def restore_points(self) -> set[str]:
        """The names of the newest recorded backups."""
        return {str(PurePath(path).stem) for path in self._manifests(MAX_RESTORE_POINTS)}

    def remembered(self, location: str) -> str:
        """The newest backup that was made in a directory, among the latest ones; empty: none."""
        for path in self._manifests(MAX_REMEMBERED):
            if PurePath(path).parent == PurePath(location):
                return PurePath(path).stem
        return ""

    def _manifests(self, limit: int) -> list[str]:
        """The paths of recorded manifests, newest first."""
        wanted = dg.AssetRecordsFilter(asset_key=self._cluster_assets.backup_set)
        found = self._instance.fetch_materializations(wanted, limit=limit)
        events = [record.asset_materialization for record in found.records]
        paths = [event.metadata.get("manifest") for event in events if event]
        return [str(path.value) for path in paths if path is not None]

    def last_evaluation(self, key: dg.AssetKey, name: str) -> dg.AssetCheckEvaluation | None:
        """The latest evaluation of a check, apart from runs that skipped or broke it."""
        found = self._log.evaluation(dg.AssetCheckKey(key, name))
        if found is None:
            return None
        return dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=name,
            passed=found.passed,
            severity=found.severity,
            metadata=dict(found.metadata),
        )

    def broke(self, key: dg.AssetKey, name: str) -> bool:
        """Whether the latest run that was to evaluate a check has ended without it."""
        run_id = self._log.unevaluated_by(dg.AssetCheckKey(key, name))
        if run_id is None:
            return False
        run = self._instance.get_run_by_id(run_id)
        return run is None or run.is_finished

    def partitions(self) -> Sequence[str]:
        return self._instance.get_dynamic_partitions(self._cluster_assets.partitions.name or "")

    # --- writing ---------------------------------------------------------------------------

    def add_partitions(self, keys: Iterable[str]) -> None:
        """Add a partition for each of these shards."""
        known = set(self.partitions())
        new = [key for key in keys if key not in known]
        if new:
            self._instance.add_dynamic_partitions(self._cluster_assets.partitions.name or "", new)

    def forget_partitions(self, keys: Iterable[str]) -> None:
        """Remove partitions from the graph; their events stay in the log."""
        for key in keys:
            self._instance.delete_dynamic_partition(self._cluster_assets.partitions.name or "", key)

    def gone(self) -> set[str]:
        """The marked partitions: their shards no longer exist at the source."""
        return set(self._instance.get_dynamic_partitions(self._cluster_assets.gone))

    def mark_gone(self, keys: Sequence[str]) -> None:
        if keys:
            self._instance.add_dynamic_partitions(self._cluster_assets.gone, list(keys))

    def mark_back(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._instance.delete_dynamic_partition(self._cluster_assets.gone, key)

    def observe(self, shards: Sequence[Seen]) -> None:
        """Record the state of shards at the source.

        The materializations are for the UI, which shows neither status nor metadata of assets
        with observations only. They must be the later events.
        """
        for event in dg.AssetObservation, dg.AssetMaterialization:
            self._log.write_all(
                [
                    event(
                        self._cluster_assets.shards,
                        partition=one.partition,
                        tags={VERSION: one.version, OURS: "true"},
                        metadata=dict(one.metadata),
                    )
                    for one in shards
                ]
            )

    def back_up(self, shards: Sequence[Kept]) -> None:
        """Record that shards are backed up at exactly these versions."""
        if not shards:
            return
        self.observe([kept.seen for kept in shards])
        pointers = self._own_observations([kept.seen for kept in shards])
        self._log.write_all(
            [
                dg.AssetMaterialization(
                    self._cluster_assets.shard_backup,
                    partition=kept.seen.partition,
                    metadata=dict(kept.metadata),
                    tags=_tags(
                        kept.seen.version,
                        self._cluster_assets.shards,
                        kept.seen.version,
                        pointers[kept.seen.partition],
                    ),
                )
                for kept in shards
            ]
        )

    def see_source(self, version: str, metadata: Metadata) -> None:
        """Record the state of the whole server."""
        self._log.write(
            dg.AssetMaterialization(
                self._cluster_assets.meta_snapshot,
                tags={VERSION: version, OURS: "true"},
                metadata=dict(metadata),
            )
        )

    def record_checks(self, found: Iterable[dg.AssetCheckEvaluation]) -> None:
        """Record evaluations of checks that this step does not execute itself."""
        for evaluation in found:
            self._log.write(evaluation)

    def limited_set(self, metadata: Metadata) -> None:
        """Record a backup of a part of the server; `backup_set` is then out of sync."""
        up = self._cluster_assets.meta_snapshot.to_user_string()
        self._log.write(
            dg.AssetMaterialization(
                self._cluster_assets.backup_set,
                metadata=dict(metadata),
                tags={f"dagster/input_data_version/{up}": "a part of the server"},
            )
        )

    def whole_set(self, version: str, metadata: Metadata) -> None:
        """Record a restore point of the whole cluster that was made outside of Dagster.

        Args:
            version: the version of the cluster when it was saved.
        """
        up = self._cluster_assets.meta_snapshot.to_user_string()
        self._log.write(
            dg.AssetMaterialization(
                self._cluster_assets.backup_set,
                metadata=dict(metadata),
                tags={f"dagster/input_data_version/{up}": version},
            )
        )

    def restore(self, shards: Sequence[Seen]) -> None:
        """Record that the archives of these versions were restored."""
        backup = self._cluster_assets.shard_backup
        pointers = self._backups_of(shards)
        self._log.write_all(
            [
                dg.AssetMaterialization(
                    self._cluster_assets.restored_shards,
                    partition=one.partition,
                    metadata=dict(one.metadata),
                    tags=_tags(one.version, backup, one.version, pointers[one.partition]),
                )
                for one in shards
            ]
        )

    def _own_observations(self, shards: Sequence[Seen]) -> dict[str, int]:
        """The observations that this run has just made; another run may have made later ones."""
        newest = self._log.newest_ids(
            self._cluster_assets.shards, dg.DagsterEventType.ASSET_OBSERVATION
        )
        versions = self.observed()  # read after the ids: an equal version is ours, or equal to ours
        return {
            one.partition: newest[one.partition]
            if versions.get(one.partition) == one.version
            else self._own_observation(one.partition)
            for one in shards
        }

    def _own_observation(self, partition: str) -> int:
        wanted = dg.AssetRecordsFilter(
            asset_key=self._cluster_assets.shards, asset_partitions=[partition]
        )
        cursor = None
        while True:
            found = self._instance.fetch_observations(wanted, limit=5, cursor=cursor)
            for record in found.records:
                if record.run_id == self._log.run_id:
                    return record.storage_id
            if not found.has_more:
                raise LookupError(f"the observation of {partition} is not in Dagster's event log")
            cursor = found.cursor

    def _backups_of(self, shards: Sequence[Seen]) -> dict[str, int | None]:
        kind = dg.DagsterEventType.ASSET_MATERIALIZATION
        newest = self._log.newest_ids(self._cluster_assets.shard_backup, kind)
        versions = self.backed_up()
        return {
            one.partition: newest.get(one.partition)
            if versions.get(one.partition) == one.version
            else self._backup_event(one.partition, one.version)
            for one in shards
        }

    def _backup_event(self, partition: str, version: str) -> int | None:
        found = self._instance.fetch_materializations(
            dg.AssetRecordsFilter(
                asset_key=self._cluster_assets.shard_backup, asset_partitions=[partition]
            ),
            limit=100,
        )
        for record in found.records:
            event = record.asset_materialization
            if event is not None and (event.tags or {}).get(VERSION) == version:
                return record.storage_id
        return None  # made by another tool, or before this Dagster


def _tags(version: str, parent: dg.AssetKey, seen: str, pointer: int | None) -> dict[str, str]:
    """Provenance tags, as Dagster writes them for its own materializations."""
    up = parent.to_user_string()
    tags = {
        VERSION: version,
        OURS: "true",
        "dagster/code_version": CODE_VERSION,
        f"dagster/input_data_version/{up}": seen,
    }
    if pointer is not None:
        tags[f"dagster/input_event_pointer/{up}"] = str(pointer)
    return tags
