"""What must hold for the backups to be worth having, as checks that the graph shows.

What they find is written down by whoever learns it (`judging`); executing one takes a look.
"""

from collections.abc import Sequence

import dagster as dg

from assets.evaluation import (
    ARCHIVES_MATCH,
    COPIES_AGREE,
    ERROR,
    EVERY_SHARD_CURRENT,
    LITTLE_TO_LOSE,
    NOTHING_MISSING,
    UNDAMAGED,
    WITHIN_OBJECTIVE,
    Judge,
    span,
)
from assets.failures import explained
from assets.history.asset_history import Ledger
from assets.history.recording import record_look
from assets.keys import Family
from assets.metadata.scans import problem_rows, verify_facts
from assets.reachable import build_reachable
from assets.run_config import VerifyConfig
from assets.scan import look
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource
from resources.config.values import Objectives
from resources.engine.stored.verify import verify


def build_checks(family: Family, objectives: Objectives) -> list[dg.AssetChecksDefinition]:
    """All checks of one family."""
    objective = f"the recovery point objective, {span(objectives)}"
    return [
        _look(
            family,
            family.shard_backup,
            EVERY_SHARD_CURRENT,
            "Every shard of the cluster is in its archive as it is now. If not, the shards to back "
            "up are listed; the job that backs up the cluster copies them. Evaluated by each look "
            "at the cluster and after each backup.",
        ),
        _look(
            family,
            family.backup_set,
            WITHIN_OBJECTIVE,
            "Every shard of the cluster was saved or found unchanged by a backup that is younger "
            f"than {objective}. Evaluated after each backup and by the sensors.",
        ),
        _look(
            family,
            family.backup_set,
            LITTLE_TO_LOSE,
            "If the cluster were lost now, nothing would be lost with it that was written before "
            f"{objective}, began. Tells for how long there has been something to lose, and by "
            "policy the newest point in the backups and at the source. Evaluated by each look, "
            "after each backup and by the sensors.",
        ),
        _look(
            family,
            family.shards,
            COPIES_AGREE,
            "The copies of each shard are as large on all of its owners, once nobody writes to "
            "them. Evaluated by each look.",
        ),
        _archives_match(family),
        _nothing_missing(family),
        _undamaged(family),
        build_reachable(family),
    ]


def _look(
    family: Family, asset: dg.AssetKey, check: str, description: str
) -> dg.AssetChecksDefinition:
    """A check that a look evaluates."""

    @dg.asset_check(asset=asset, name=check, description=description)
    def looked(
        context: dg.AssetCheckExecutionContext,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> dg.AssetCheckResult:
        ledger = Ledger.of_run(context.op_execution_context, family)
        with explained():
            seen = look(family, clusters, repository, context.log, ledger)
            record_look(ledger, seen.plan, seen.watched.archives)
            found = Judge(family, seen.objectives).after_look(ledger, seen)
        ledger.judge(one for one in found if (one.asset_key, one.check_name) != (asset, check))
        return _result(found, check)

    return looked


def _result(found: Sequence[dg.AssetCheckEvaluation], check: str) -> dg.AssetCheckResult:
    [mine] = [one for one in found if one.check_name == check]
    return dg.AssetCheckResult(passed=mine.passed, severity=mine.severity, metadata=mine.metadata)


def _archives_match(family: Family) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=family.shard_backup,
        name=ARCHIVES_MATCH,
        description="Every archive that a manifest lists is there, and reads back as what its "
        "manifest says: SHA-256, every header, index and block. Evaluated by the verify job, and "
        "failed by any look that misses an archive. After a backup it tells how many archives were "
        "checked only while they were made. `sample` reads a part; archives that were bad when "
        "they were last read are read again with every sample.",
    )
    def archives_match(
        context: dg.AssetCheckExecutionContext,
        config: VerifyConfig,
        repository: BackupRepositoryResource,
    ) -> dg.AssetCheckResult:
        ledger = Ledger.of_run(context.op_execution_context, family)
        with explained():
            config.check()
            backups = repository.open(family.name)
            known = ledger.verdict(family.shard_backup, ARCHIVES_MATCH)
            bad = _bad_archives(known)
            report = verify(
                backups,
                parallel=config.parallel,
                choose=lambda names: names if bad is None else config.choose(names, always=bad),
            )
        return dg.AssetCheckResult(
            passed=not report.problems, severity=ERROR, metadata=verify_facts(report, known)
        )

    return archives_match


def _bad_archives(verdict: dg.AssetCheckEvaluation | None) -> set[str] | None:
    """Those that were bad when they were last read; None if not all of them are known by name."""
    files = {str(row["file"]) for row in problem_rows(verdict)}
    count = verdict.metadata.get("problems_found") if verdict else None
    return files if count is None or count.value == len(files) else None


def _nothing_missing(family: Family) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=family.backup_set,
        name=NOTHING_MISSING,
        blocking=True,
        description="Every file that the newest state needs is in the directory, as long as it was "
        "when it was stored. A restore point for which this does not hold is none.",
    )
    def manifest_lists_what_exists(
        context: dg.AssetCheckExecutionContext,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> dg.AssetCheckResult:
        with explained():
            reading = clusters.reading()
            judge = Judge(family, reading.cluster(family.name).objectives)
            found = judge.nothing_missing(repository.open(family.name, reading))
        return _result([found], NOTHING_MISSING)

    return manifest_lists_what_exists


def _undamaged(family: Family) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=family.shard_backup,
        name=UNDAMAGED,
        description="No archive of the newest state has parts that were damaged at their source. "
        "The archives that have are listed, with the damage and the earlier backup that has the "
        "file whole; a restore leaves these parts out. Evaluated by each look and after each "
        "backup.",
    )
    def no_damage_at_source(
        clusters: ClustersResource, repository: BackupRepositoryResource
    ) -> dg.AssetCheckResult:
        with explained():
            reading = clusters.reading()
            judge = Judge(family, reading.cluster(family.name).objectives)
            archives = repository.open(family.name, reading).current().archives.values()
            found = judge.undamaged(archives)
        return _result([found], UNDAMAGED)

    return no_damage_at_source
