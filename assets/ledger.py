"""What Dagster's event log knows of a server's shards, read and written.

Dagster derives staleness from versions and provenance. For our events it can know neither by
itself: one run backs up many shards, each with a version of its own. So we write both: a
backup names the observation of its shard that it answers, and is stale as soon as a later
observation has another version.

The bulk reads are Dagster's storage interface and no public API; they live in this file only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from assets.family import CODE_VERSION, Family

VERSION = "dagster/data_version"
MOST_RESTORE_POINTS = 1000
MOST_CHECKS = 5
_EVALUATION = dg.DagsterEventType.ASSET_CHECK_EVALUATION
OURS = "dagster/data_version_is_user_provided"

Context = dg.OpExecutionContext | dg.AssetExecutionContext
Metadata = Mapping[str, Any]


class Ledger:
    """The events of one family.

    Args:
        log: writes an event, of a run or of none, so that it can be read back at once.
        run_id: the run whose events these are; empty outside of runs.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        family: Family,
        log: Callable[[Any], None],
        run_id: str = "",
    ) -> None:
        self._instance = instance
        self._family = family
        self._log = log
        self._run_id = run_id

    @classmethod
    def of_run(cls, context: Context, family: Family) -> Ledger:
        """Seen from a step of a run, whose events these are."""
        return cls(context.instance, family, context.log_event, context.run.run_id)

    @classmethod
    def outside(cls, instance: dg.DagsterInstance, family: Family) -> Ledger:
        """Seen from a sensor; the events belong to no run."""
        return cls(instance, family, instance.report_runless_asset_event)

    # --- reading ---------------------------------------------------------------------------

    def observed(self) -> dict[str, str]:
        """By partition, the version of the shard that was seen last."""
        return self._versions(self._family.shards, dg.DagsterEventType.ASSET_OBSERVATION)

    def backed_up(self) -> dict[str, str]:
        """By partition, the version that was backed up last."""
        return self._versions(self._family.shard_backup, dg.DagsterEventType.ASSET_MATERIALIZATION)

    def version(self, key: dg.AssetKey) -> str | None:
        """The version of an asset without partitions."""
        event = self._instance.get_latest_materialization_event(key)
        seen = event.asset_materialization if event else None
        return (seen.tags or {}).get(VERSION) if seen else None

    def restore_points(self) -> set[str]:
        """The newest backups that are recorded, by name."""
        wanted = dg.AssetRecordsFilter(asset_key=self._family.backup_set)
        found = self._instance.fetch_materializations(wanted, limit=MOST_RESTORE_POINTS)
        events = [record.asset_materialization for record in found.records]
        names = [event.metadata.get("restore_point") for event in events if event]
        return {str(name.value) for name in names if name is not None}

    def names_in_check(self, key: dg.AssetKey, name: str, table: str, column: str) -> set[str]:
        """A column of a table in the latest evaluation of a check."""
        log = self._instance.event_log_storage
        check = dg.AssetCheckKey(key, name)
        for record in log.get_asset_check_execution_history(check, limit=MOST_CHECKS):
            event = record.event.dagster_event if record.event else None
            if event is None or event.event_type is not _EVALUATION:
                continue
            found = event.asset_check_evaluation_data.metadata.get(table)
            rows = found.records if isinstance(found, dg.TableMetadataValue) else []
            return {str(row.data[column]) for row in rows if row.data.get(column)}
        return set()

    def partitions(self) -> Sequence[str]:
        return self._instance.get_dynamic_partitions(self._family.partitions.name or "")

    def _versions(self, key: dg.AssetKey, kind: dg.DagsterEventType) -> dict[str, str]:
        tags = self._instance.event_log_storage.get_latest_tags_by_partition(key, kind, [VERSION])
        return {partition: found[VERSION] for partition, found in tags.items() if VERSION in found}

    # --- writing ---------------------------------------------------------------------------

    def add_partitions(self, keys: Iterable[str]) -> None:
        """Have a partition for each of these shards; none is ever taken away."""
        known = set(self.partitions())
        new = [key for key in keys if key not in known]
        if new:
            self._instance.add_dynamic_partitions(self._family.partitions.name or "", new)

    def observe(self, partition: str, version: str, metadata: Metadata) -> None:
        """Note what a shard at the source looks like.

        The materialization is for the UI, which shows neither fill nor metadata of what is
        only observed. It has to be the later of the two.
        """
        shards, tags = self._family.shards, {VERSION: version, OURS: "true"}
        for event in dg.AssetObservation, dg.AssetMaterialization:
            self._log(event(shards, partition=partition, tags=tags, metadata=dict(metadata)))

    def back_up(self, partition: str, version: str, metadata: Metadata, seen: Metadata) -> None:
        """Note that a shard is backed up at exactly this version.

        Args:
            seen: metadata of the observation that goes with it.
        """
        self.observe(partition, version, seen)
        pointer = self._own_observation(partition)
        self._log(
            dg.AssetMaterialization(
                self._family.shard_backup,
                partition=partition,
                metadata=dict(metadata),
                tags=_tags(version, self._family.shards, version, pointer),
            )
        )

    def see_source(self, version: str, metadata: Metadata) -> None:
        """Note the state of the whole server."""
        self._log(
            dg.AssetMaterialization(
                self._family.meta_snapshot,
                tags={VERSION: version, OURS: "true"},
                metadata=dict(metadata),
            )
        )

    def judge(self, evaluation: dg.AssetCheckEvaluation) -> None:
        """Note what a check found, from a step that is not the check's own."""
        self._log(evaluation)

    def limited_set(self, metadata: Metadata) -> None:
        """Note a backup of a part of the server; `backup_set` is out of sync with the whole."""
        up = self._family.meta_snapshot.to_user_string()
        self._log(
            dg.AssetMaterialization(
                self._family.backup_set,
                metadata=dict(metadata),
                tags={f"dagster/input_data_version/{up}": "a part of the server"},
            )
        )

    def whole_set(self, version: str, metadata: Metadata) -> None:
        """Note a restore point of the whole cluster that was made outside of Dagster.

        Args:
            version: of the cluster as it was saved.
        """
        up = self._family.meta_snapshot.to_user_string()
        self._log(
            dg.AssetMaterialization(
                self._family.backup_set,
                metadata=dict(metadata),
                tags={f"dagster/input_data_version/{up}": version},
            )
        )

    def restore(self, partition: str, version: str, metadata: Metadata) -> None:
        """Note that the archive of this version was restored."""
        backup = self._family.shard_backup
        self._log(
            dg.AssetMaterialization(
                self._family.restored_shards,
                partition=partition,
                metadata=dict(metadata),
                tags=_tags(version, backup, version, self._backup_event(partition, version)),
            )
        )

    def _own_observation(self, partition: str) -> int:
        """The observation that this run has just made; another run may have made a later one."""
        wanted = dg.AssetRecordsFilter(asset_key=self._family.shards, asset_partitions=[partition])
        cursor = None
        while True:
            found = self._instance.fetch_observations(wanted, limit=5, cursor=cursor)
            for record in found.records:
                if record.run_id == self._run_id:
                    return record.storage_id
            if not found.has_more:
                raise LookupError(f"the observation of {partition} is not in Dagster's event log")
            cursor = found.cursor

    def _backup_event(self, partition: str, version: str) -> int | None:
        found = self._instance.fetch_materializations(
            dg.AssetRecordsFilter(
                asset_key=self._family.shard_backup, asset_partitions=[partition]
            ),
            limit=100,
        )
        for record in found.records:
            event = record.asset_materialization
            if event is not None and (event.tags or {}).get(VERSION) == version:
                return record.storage_id
        return None  # made by another tool, or before this Dagster


def _tags(version: str, parent: dg.AssetKey, seen: str, pointer: int | None) -> dict[str, str]:
    """Provenance, as Dagster itself writes it for what it makes."""
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
