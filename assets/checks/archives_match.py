"""`archives_match_their_digests`: every archive reads back as its manifest describes it."""

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
        description="Every archive that a manifest lists exists and reads back as its manifest "
        "describes it: SHA-256, every header, index and block. The verify job evaluates this "
        "check; any scan that misses an archive fails it. After a backup it reports how many "
        "archives were checked only while they were made. `sample` reads a part of them; archives "
        "that failed the last time are read again with every sample.",
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
    """Archives that failed when they were last read; None if not all of them are known by name."""
    files = {str(row["file"]) for row in problem_rows(evaluation)}
    count = evaluation.metadata.get("problems_found") if evaluation else None
    return files if count is None or count.value == len(files) else None
