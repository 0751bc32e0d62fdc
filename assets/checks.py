"""What must hold for the backups to be worth having, as checks that the graph shows."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from assets.config import VerifyConfig
from assets.facts.source import (
    copies_table,
    current_facts,
    gone_facts,
    late_table,
    left_facts,
    problem_table,
    verify_facts,
)
from assets.facts.values import Metadata
from assets.failures import explained
from assets.family import Family
from assets.ledger import Ledger
from assets.looking import look
from assets.recording import left_behind, record_look
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource
from resources.config.values import Objectives
from resources.engine.backup import BackupReport
from resources.engine.objective import late_shards, missing_files
from resources.engine.plan import BackupPlan
from resources.engine.verify import verify
from resources.engine.watch import glance
from resources.model import ShardPlace
from resources.repository.watched import WatchedRepository

EVERY_SHARD_CURRENT = "every_shard_current"
ARCHIVES_MATCH = "archives_match_their_digests"
NOTHING_MISSING = "manifest_lists_what_exists"
WITHIN_OBJECTIVE = "within_objective"
COPIES_AGREE = "copies_agree"
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


def build_every_shard_current(family: Family) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=family.shard_backup,
        name=EVERY_SHARD_CURRENT,
        description="Every shard of the cluster is in its archive as it is now. If not, the shards "
        "to back up are listed; the job that backs up the cluster copies them. Evaluated by each "
        "look at the cluster and after each backup; executing it takes a look.",
    )
    def every_shard_current(
        context: dg.AssetCheckExecutionContext,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> dg.AssetCheckResult:
        with explained():
            plan = look(family, clusters, repository, context.log)
        record_look(Ledger.of_run(context.op_execution_context, family), plan)
        return _result(after_look(family, plan)[0])

    return every_shard_current


def build_archives_match(family: Family) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=family.shard_backup,
        name=ARCHIVES_MATCH,
        description="Every archive that a manifest lists is there, and reads back as what its "
        "manifest says: SHA-256, every header, index and block. Evaluated by the verify job, and "
        "failed by any look that misses an archive. `sample` reads a part; archives that were bad "
        "when they were last read are read again with every sample.",
    )
    def archives_match(
        context: dg.AssetCheckExecutionContext,
        config: VerifyConfig,
        repository: BackupRepositoryResource,
    ) -> dg.AssetCheckResult:
        ledger = Ledger.of_run(context.op_execution_context, family)
        with explained():
            backups = repository.open(family.name)
            bad = ledger.names_in_check(family.shard_backup, ARCHIVES_MATCH, "problems", "file")
            report = verify(
                backups,
                parallel=config.parallel,
                choose=lambda names: config.choose(names, always=bad),
            )
        return dg.AssetCheckResult(
            passed=not report.problems, severity=ERROR, metadata=verify_facts(report)
        )

    return archives_match


def build_nothing_missing(family: Family) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=family.backup_set,
        name=NOTHING_MISSING,
        blocking=True,
        description="Every file that the newest state needs is in the directory, as long as it was "
        "when it was stored. A restore point for which this does not hold is none.",
    )
    def manifest_lists_what_exists(
        context: dg.AssetCheckExecutionContext, repository: BackupRepositoryResource
    ) -> dg.AssetCheckResult:
        with explained():
            files, missing = missing_files(repository.open(family.name))
        found: Metadata = {"files": files, "missing": len(missing)}
        if missing:
            found["problems"] = problem_table(missing)
        return dg.AssetCheckResult(passed=not missing, severity=ERROR, metadata=found)

    return manifest_lists_what_exists


def build_within_objective(family: Family, objectives: Objectives) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=family.backup_set,
        name=WITHIN_OBJECTIVE,
        description="Every shard of the cluster was saved or found unchanged by a backup that is "
        f"younger than the recovery point objective, {_span(objectives)}. Evaluated after each "
        "backup and by the sensor that looks for missed ones.",
    )
    def within(
        context: dg.AssetCheckExecutionContext,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> dg.AssetCheckResult:
        with explained():
            watched = WatchedRepository(repository.open(family.name))
            watched.refresh()
            internal = clusters.settings(family.name).internal
            seen = glance(clusters.open(family.name), internal=internal)
        places = seen.places
        late = late_shards(watched, places, earliest(objectives))
        return _result(within_objective(family, objectives, watched, len(places), late))

    return within


def build_copies_agree(family: Family) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=family.shards,
        name=COPIES_AGREE,
        description="The copies of each shard are as large on all of its owners. Nodes compact "
        "on their own, so sizes may differ for a while; a difference that stays is one that the "
        "cluster should repair. Evaluated by each look; executing it takes a look.",
    )
    def copies_agree(
        context: dg.AssetCheckExecutionContext,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> dg.AssetCheckResult:
        with explained():
            plan = look(family, clusters, repository, context.log)
        return _result(_copies(family, plan))

    return copies_agree


def earliest(objectives: Objectives) -> datetime:
    """Backups that began before are older than the objective allows."""
    return datetime.now(UTC) - timedelta(seconds=objectives.recovery_point)


def after_look(family: Family, plan: BackupPlan) -> list[dg.AssetCheckEvaluation]:
    """What a look found: whether shards are current, first, then what else it can tell."""
    found = [
        _evaluation(
            family.shard_backup, EVERY_SHARD_CURRENT, not plan.to_copy, current_facts(plan)
        ),
        _copies(family, plan),
    ]
    gone = [state for state in plan.states if state.reason == "archive missing"]
    if gone:
        problems = gone_facts(gone)
        found.append(_evaluation(family.shard_backup, ARCHIVES_MATCH, False, problems, ERROR))
    return found


def after_backup(family: Family, ledger: Ledger, report: BackupReport) -> dg.AssetCheckEvaluation:
    """What a backup left, of the whole cluster or of a part; the cluster is not asked again."""
    seen, left = left_behind(ledger, report)
    return current(family, seen, left)


def current(family: Family, shards: int, left: Sequence[ShardPlace]) -> dg.AssetCheckEvaluation:
    """How many shards there are, and which of them are not as in their archives."""
    return _evaluation(family.shard_backup, EVERY_SHARD_CURRENT, not left, left_facts(shards, left))


def within_objective(
    family: Family,
    objectives: Objectives,
    watched: WatchedRepository,
    shards: int,
    late: Sequence[ShardPlace],
) -> dg.AssetCheckEvaluation:
    """Which shards no backup covers that is young enough."""
    found: Metadata = {
        "recovery_point": _span(objectives),
        "newest_restore_point": str(watched.last_whole or "none"),
        "shards": shards,
        "shards_late": len(late),
    }
    if late:
        found["late"] = late_table(late, watched)
    return _evaluation(family.backup_set, WITHIN_OBJECTIVE, not late, found)


def _copies(family: Family, plan: BackupPlan) -> dg.AssetCheckEvaluation:
    differing = [s for s in plan.states if len({copy.size_bytes for copy in s.copies}) > 1]
    found: Metadata = {"shards": len(plan.states), "shards_differing": len(differing)}
    if differing:
        found["differing"] = copies_table(differing)
    return _evaluation(family.shards, COPIES_AGREE, not differing, found)


def _span(objectives: Objectives) -> str:
    return str(timedelta(seconds=objectives.recovery_point))


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


def _result(found: dg.AssetCheckEvaluation) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=found.passed, severity=found.severity, metadata=found.metadata
    )
