"""`archives_match_their_digests`: every archive reads back as what its manifest says."""

import dagster as dg

from assets.evaluation import ARCHIVES_MATCH, ERROR
from assets.failures import explained
from assets.history.asset_history import AssetHistory
from assets.keys import ClusterAssets
from assets.metadata.scans import problem_rows, verify_facts
from assets.run_config import VerifyConfig
from resources.backup_repository import BackupRepositoryResource
from resources.engine.verify.verify import verify


def build_archives_match(cluster_assets: ClusterAssets) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=cluster_assets.shard_backup,
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
        history = AssetHistory.of_run(context.op_execution_context, cluster_assets)
        with explained():
            config.check()
            backups = repository.open(cluster_assets.name)
            known = history.last_evaluation(cluster_assets.shard_backup, ARCHIVES_MATCH)
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


def _bad_archives(evaluation: dg.AssetCheckEvaluation | None) -> set[str] | None:
    """Those that were bad when they were last read; None if not all of them are known by name."""
    files = {str(row["file"]) for row in problem_rows(evaluation)}
    count = evaluation.metadata.get("problems_found") if evaluation else None
    return files if count is None or count.value == len(files) else None
