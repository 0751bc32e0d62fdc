"""`no_damage_at_source`: no archive has parts that were damaged when they were read."""

import dagster as dg

from assets.checks.result import result_of
from assets.evaluation import UNDAMAGED, CheckEvaluator
from assets.failures import explained
from assets.keys import ClusterAssets
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource


def build_undamaged(cluster_assets: ClusterAssets) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=cluster_assets.shard_backup,
        name=UNDAMAGED,
        description="No archive of the newest state has parts that were damaged at their source. "
        "The table lists the damaged archives, with the damage and the earlier backup that has the "
        "file whole; a restore leaves the damaged parts out. Evaluated by each scan and after each "
        "backup.",
    )
    def no_damage_at_source(
        clusters: ClustersResource, repository: BackupRepositoryResource
    ) -> dg.AssetCheckResult:
        with explained():
            reading = clusters.reading()
            evaluator = CheckEvaluator(
                cluster_assets, reading.cluster(cluster_assets.name).objectives
            )
            archives = repository.open(cluster_assets.name, reading).current().archives.values()
            found = evaluator.undamaged(archives)
        return result_of([found], UNDAMAGED)

    return no_damage_at_source
