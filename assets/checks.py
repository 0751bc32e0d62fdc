"""What must hold for the backups to be worth having, as checks that the graph shows."""

import dagster as dg

from assets import facts
from assets.failures import explained
from assets.family import Family
from assets.ledger import Ledger
from assets.looking import look
from assets.recording import left_behind, record_look
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource
from resources.engine.backup import BackupReport
from resources.engine.plan import BackupPlan

EVERY_SHARD_CURRENT = "every_shard_current"
DESCRIPTION = """
Every shard on the server is in its archive as it is now. If not, the shards to back up are listed;
the job that backs up the server copies them. Evaluated by each look at the server and after each
backup; executing it takes a look.
"""


def build_every_shard_current(family: Family) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=family.shard_backup, name=EVERY_SHARD_CURRENT, description=DESCRIPTION)
    def every_shard_current(
        context: dg.AssetCheckExecutionContext,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> dg.AssetCheckResult:
        with explained():
            plan = look(family, clusters, repository, context.log)
        record_look(Ledger(context.op_execution_context, family), plan)
        seen = after_look(family, plan)
        return dg.AssetCheckResult(
            passed=seen.passed, severity=seen.severity, metadata=seen.metadata
        )

    return every_shard_current


def after_look(family: Family, plan: BackupPlan) -> dg.AssetCheckEvaluation:
    """What a look found."""
    return _evaluation(family, not plan.to_copy, facts.current_facts(plan))


def after_backup(family: Family, ledger: Ledger, report: BackupReport) -> dg.AssetCheckEvaluation:
    """What a backup left, of the whole server or of a part; the server is not asked again."""
    seen, left = left_behind(ledger, report)
    return _evaluation(family, not left, facts.left_facts(seen, left))


def _evaluation(family: Family, passed: bool, metadata: facts.Metadata) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=family.shard_backup,
        check_name=EVERY_SHARD_CURRENT,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )
