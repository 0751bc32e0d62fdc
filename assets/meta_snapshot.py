"""`meta_snapshot`: a look at the server, before anything is copied."""

import dagster as dg

from assets.evaluation import Judge
from assets.failures import explained
from assets.history.asset_history import Ledger
from assets.history.recording import record_look
from assets.keys import KINDS, Family
from assets.metadata.scans import look_facts
from assets.scan import look
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource

DESCRIPTION = """
A look at what the cluster has and what changed.

Its databases, policies and shards, and which shards differ from their newest archive. A look copies
nothing: materialize it whenever you want to know.

Its data version changes when anything worth backing up has changed, be it settings or points.
`backup_set` is "Unsynced" from then on. Each shard that changed gets a new observation on `shards`,
which makes its partition of `shard_backup` stale.
"""


def build_meta_snapshot(family: Family) -> dg.AssetsDefinition:
    @dg.asset(
        key=family.meta_snapshot,
        description=DESCRIPTION,
        group_name=family.name,
        kinds=KINDS,
        tags=family.tags,
    )
    def meta_snapshot(
        context: dg.AssetExecutionContext,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> dg.MaterializeResult:
        ledger = Ledger.of_run(context, family)
        with explained():
            seen = look(family, clusters, repository, context.log, ledger)
        version, gone = record_look(ledger, seen.plan, seen.watched.archives)
        ledger.judge(Judge(family, seen.objectives).after_look(ledger, seen))
        return dg.MaterializeResult(
            metadata=look_facts(seen.plan, gone),
            data_version=dg.DataVersion(version),
        )

    return meta_snapshot
