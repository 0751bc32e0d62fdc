"""Evaluate the checks from what runs and sensors learn.

If only executing a check evaluated it, it would stay green after its statement had become false.
So scans, backups, adoptions and sensors evaluate the checks that they can decide.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import dagster as dg

from assets.history.asset_history import AssetHistory
from assets.history.recording import left_behind
from assets.keys import ClusterAssets
from assets.metadata.common import Metadata, for_people
from assets.metadata.scans import (
    copies_facts,
    current_facts,
    damage_facts,
    gone_facts,
    late_table,
    left_facts,
    loss_window_facts,
    problem_table,
    unread_archives,
    unread_facts,
)
from assets.scan import Scan
from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.config.values import Objectives
from resources.engine.backup.plan import BackupPlan
from resources.engine.backup.poll import ChangesFound
from resources.engine.backup.run import BackupReport
from resources.engine.verify.newest_points import newest_points
from resources.engine.verify.rpo import late_shards, missing_files
from resources.errors import RepositoryError, WireError
from resources.model import Metastore, ShardID, ShardPlace
from resources.repository.backup_set import Archive, BackupSet
from resources.repository.manifest_cache import ManifestCache
from resources.repository.repository import BackupRepository

EVERY_SHARD_CURRENT = "every_shard_current"
ARCHIVES_MATCH = "archives_match_their_digests"
NOTHING_MISSING = "manifest_lists_what_exists"
WITHIN_OBJECTIVE = "within_objective"
LITTLE_TO_LOSE = "little_to_lose"
COPIES_AGREE = "copies_agree"
UNDAMAGED = "no_damage_at_source"
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
Found = list[dg.AssetCheckEvaluation]


class CheckEvaluator:
    """Evaluates the checks of one cluster from what is known at the moment."""

    def __init__(self, cluster_assets: ClusterAssets, objectives: Objectives) -> None:
        self._cluster_assets = cluster_assets
        self._objectives = objectives

    # --- after each kind of event ----------------------------------------------------------

    def after_scan(self, history: AssetHistory, scan: Scan) -> Found:
        """A scan decides whether shards are current, copies agree and files are missing."""
        plan, cached = scan.plan, scan.cached
        places = [state.place for state in plan.states]
        changed = [state.place for state in plan.to_copy]
        gone = [s.place.shard_id for s in plan.to_copy if s.reason == "archive missing"]
        loss_window = self._loss_window(cached, scan.source, plan.metastore, places, changed, gone)
        found = [
            self._every_shard_current(not changed, current_facts(plan)),
            self._copies_agree(plan),
            self.within_objective(cached, places),
            loss_window,
        ]
        if gone:
            known = history.last_evaluation(self._cluster_assets.shard_backup, ARCHIVES_MATCH)
            found.append(self._archives_gone(gone_facts(plan, known)))
        if cached.archives:
            found.append(self.nothing_missing(cached.repository))
            found.append(self.undamaged(cached.archives.values()))
        return found

    def after_poll(self, cached: ManifestCache, found: ChangesFound) -> Found:
        """A poll decides less than a scan: it compares no copies and queries no points."""
        changed = [state.place for state in found.changed]
        gone = [s.place.shard_id for s in found.changed if s.reason == "archive missing"]
        places, metastore = found.fingerprint.places, found.fingerprint.metastore
        return [
            self._every_shard_current(not changed, left_facts(len(places), changed)),
            self.within_objective(cached, places),
            self._loss_window(cached, None, metastore, places, changed, gone),
        ]

    def after_backup(
        self,
        history: AssetHistory,
        cached: ManifestCache,
        source: Server | Cluster | None,
        report: BackupReport,
    ) -> Found:
        """The checks after a backup of the cluster or a part of it, without another scan."""
        cached.refresh()
        failed = [shard.shard_id for shard in report.failed]
        found = self._as_far_as_known(history, cached, source, report.metastore, failed)
        missing = self.nothing_missing(cached.repository)
        return [*found, *self._of_what_is_stored(history, cached, missing)]

    def after_adoption(self, history: AssetHistory, cached: ManifestCache) -> Found:
        """The checks after a backup of another tool was adopted, as far as scans have recorded.

        A large backup is recorded in parts. So manifests are not read each time, unless one
        names a missing file, which an identical archive of another may replace. A damaged
        metastore of the newest backup is no error here; a check reports it.
        """
        metastore = None
        with suppress(RepositoryError, WireError):
            metastore = cached.metastore()
        found = self._as_far_as_known(history, cached, None, metastore) if metastore else []
        missing = self.nothing_missing(cached.repository, cached.listed())
        if not missing.passed:
            missing = self.nothing_missing(cached.repository)
        return [*found, *self._of_what_is_stored(history, cached, missing)]

    def anew(self, history: AssetHistory, cached: ManifestCache) -> Found:
        """Evaluate a check that a dead run left unevaluated, and that is red for that reason."""
        if cached.newest is None or not history.broke(
            self._cluster_assets.backup_set, NOTHING_MISSING
        ):
            return []
        return [self.nothing_missing(cached.repository)]

    def loss_window_by_records(
        self, history: AssetHistory, cached: ManifestCache, metastore: Metastore | None
    ) -> Found:
        """What would be lost, as far as scans have recorded; nothing if there is no backup."""
        if metastore is None:
            return []
        there, left = left_behind(history, metastore)
        return [self._loss_window(cached, None, metastore, there, left)]

    def _as_far_as_known(
        self,
        history: AssetHistory,
        cached: ManifestCache,
        source: Server | Cluster | None,
        metastore: Metastore,
        failed: Collection[ShardID] = (),
    ) -> Found:
        there, left = left_behind(history, metastore, failed)
        return [
            self._every_shard_current(not left, left_facts(len(there), left)),
            self.within_objective(cached, there),
            self._loss_window(cached, source if left else None, metastore, there, left),
        ]

    def _of_what_is_stored(
        self, history: AssetHistory, cached: ManifestCache, missing: dg.AssetCheckEvaluation
    ) -> Found:
        """The checks of the stored files, which are not read again: a known failure stays one.

        Our own archives were checked while they were made; those of other tools are not known
        to be good before they are read.
        """
        found = [missing, self.undamaged(cached.archives.values())]
        copies = history.last_evaluation(self._cluster_assets.shards, COPIES_AGREE)
        if copies is not None and not copies.passed:
            found.append(copies)
        known = history.last_evaluation(self._cluster_assets.shard_backup, ARCHIVES_MATCH)
        if known is not None and not known.passed:
            return [*found, known]
        unread = unread_archives(cached.archives.values(), known)
        if missing.passed and all(archive.entry.details for archive in unread):
            facts = unread_facts(len(cached.archives), len(unread), known)
            found.append(
                _evaluation(self._cluster_assets.shard_backup, ARCHIVES_MATCH, True, facts, ERROR)
            )
        return found

    # --- checks ----------------------------------------------------------------------------

    def _every_shard_current(self, passed: bool, metadata: Metadata) -> dg.AssetCheckEvaluation:
        return _evaluation(self._cluster_assets.shard_backup, EVERY_SHARD_CURRENT, passed, metadata)

    def _copies_agree(self, plan: BackupPlan) -> dg.AssetCheckEvaluation:
        return _evaluation(
            self._cluster_assets.shards, COPIES_AGREE, not plan.copies.differing, copies_facts(plan)
        )

    def _archives_gone(self, metadata: Metadata) -> dg.AssetCheckEvaluation:
        return _evaluation(
            self._cluster_assets.shard_backup, ARCHIVES_MATCH, False, metadata, ERROR
        )

    def nothing_missing(
        self, repository: BackupRepository, listed: BackupSet | None = None
    ) -> dg.AssetCheckEvaluation:
        """Whether all files that the newest state needs exist; `listed`: as in `missing_files`.

        Raises:
            RepositoryError: there is no backup, or a manifest is damaged.
        """
        files, missing = missing_files(repository, listed)
        found: Metadata = {"files": files, "missing": len(missing)}
        if missing:
            found["problems"] = problem_table(missing)
        return _evaluation(
            self._cluster_assets.backup_set, NOTHING_MISSING, not missing, found, ERROR
        )

    def undamaged(self, archives: Iterable[Archive]) -> dg.AssetCheckEvaluation:
        """Whether every archive of the newest state is free of damage from its source."""
        metadata = damage_facts(archives)
        passed = not metadata["archives_damaged"]
        return _evaluation(self._cluster_assets.shard_backup, UNDAMAGED, passed, metadata, ERROR)

    def within_objective(
        self, cached: ManifestCache, places: Sequence[ShardPlace]
    ) -> dg.AssetCheckEvaluation:
        late = late_shards(cached, places, self.earliest())
        found: Metadata = {
            "recovery_point": span(self._objectives),
            "newest_restore_point": str(cached.last_whole or "none"),
            "shards": len(places),
            "shards_late": len(late),
        }
        if late:
            found["late"] = late_table(late, cached)
        young = cached.last_whole is not None and cached.last_whole.started_at >= self.earliest()
        passed = not late if places else young
        return _evaluation(self._cluster_assets.backup_set, WITHIN_OBJECTIVE, passed, found)

    def _loss_window(
        self,
        cached: ManifestCache,
        source: Server | Cluster | None,
        metastore: Metastore,
        places: Sequence[ShardPlace],
        changed: Sequence[ShardPlace],
        gone: Collection[ShardID] = (),
    ) -> dg.AssetCheckEvaluation:
        """Whether the points since the last backup would exceed the objective if lost.

        Args:
            gone: those of the changed shards whose archive is missing.
        """
        late = late_shards(cached, changed, self.earliest())
        ids = {place.shard_id for place in changed}
        newest = newest_points(source, metastore, places, cached.archives, ids)
        metadata = loss_window_facts(newest, cached, changed, gone, now=datetime.now(UTC))
        metadata = {"recovery_point": span(self._objectives), **metadata}
        passed = not late and not gone
        return _evaluation(self._cluster_assets.backup_set, LITTLE_TO_LOSE, passed, metadata)

    def earliest(self) -> datetime:
        """The time before which backups are older than the objective allows."""
        return datetime.now(UTC) - timedelta(seconds=self._objectives.recovery_point)


def span(objectives: Objectives) -> str:
    return for_people(objectives.recovery_point)


def _evaluation(
    key: dg.AssetKey,
    name: str,
    passed: bool,
    metadata: Metadata,
    severity: dg.AssetCheckSeverity = WARN,
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=key, check_name=name, passed=passed, severity=severity, metadata=metadata
    )
