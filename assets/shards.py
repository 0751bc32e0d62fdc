"""`shards`: the server's shards as they are, one partition each."""

import warnings
from collections.abc import Iterator

import dagster as dg

from assets.evaluation import Judge
from assets.failures import explained
from assets.history.asset_history import Ledger
from assets.history.recording import record_look
from assets.keys import KINDS, Family
from assets.scan import look
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource

DESCRIPTION = """
The shards that the cluster has now.

A partition is `database/retention policy/shard id`. Shardkeeper does not make them, it observes
them: a new data version means that the shard holds something that its newest archive does not.
Observing looks at all shards, whichever partition was chosen.

A shard that was dropped or has expired keeps its partition and history if it has an archive, and
its page says since when it is gone; the look at the cluster, `meta_snapshot`, lists all of them.
"""


def build_shards(family: Family) -> dg.AssetsDefinition:
    with warnings.catch_warnings():
        # Dagster marks the decorator beta; which of its features to use is our choice.
        warnings.simplefilter("ignore", dg.BetaWarning)

        @dg.multi_observable_source_asset(
            name=f"observe_{family.name}_shards",
            specs=[
                dg.AssetSpec(
                    family.shards,
                    deps=[family.meta_snapshot],
                    description=DESCRIPTION,
                    partitions_def=family.partitions,
                    skippable=True,
                    group_name=family.name,
                    kinds=KINDS,
                    tags=family.tags,
                )
            ],
        )
        def shards(
            context: dg.AssetExecutionContext,
            clusters: ClustersResource,
            repository: BackupRepositoryResource,
        ) -> Iterator[dg.ObserveResult]:
            ledger = Ledger.of_run(context, family)
            with explained():
                seen = look(family, clusters, repository, context.log, ledger)
            record_look(ledger, seen.plan, seen.watched.archives)
            ledger.judge(Judge(family, seen.objectives).after_look(ledger, seen))
            yield from ()

        return shards
