"""`manifest_lists_what_exists`: every file that the newest state needs exists."""

import dagster as dg

from assets.checks.result import result_of
from assets.evaluation import NOTHING_MISSING, CheckEvaluator
from assets.failures import explained
from assets.keys import ClusterAssets
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource


def build_nothing_missing(cluster_assets: ClusterAssets) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=cluster_assets.backup_set,
        name=NOTHING_MISSING,
        blocking=True,
        description="Every file that the newest state needs is in the directory, with the size it "
        "was stored with. If this fails, the restore point is not complete.",
    )
    def manifest_lists_what_exists(
        context: dg.AssetCheckExecutionContext,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> dg.AssetCheckResult:
        with explained():
            reading = clusters.reading()
            evaluator = CheckEvaluator(
                cluster_assets, reading.cluster(cluster_assets.name).objectives
            )
            found = evaluator.nothing_missing(repository.open(cluster_assets.name, reading))
        return result_of([found], NOTHING_MISSING)

    return manifest_lists_what_exists
