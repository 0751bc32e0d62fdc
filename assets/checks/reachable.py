"""`reachable`: the questions of `shardkeeper doctor`, as a check in the graph."""

import time
from collections.abc import Sequence

import dagster as dg

from assets.evaluation import ERROR
from assets.failures import explained
from assets.history.asset_history import AssetHistory
from assets.keys import ClusterAssets
from assets.metadata.tables import table
from assets.reachability import REACHABLE, evaluation, since_s
from resources.cluster import ClustersResource
from resources.config.opening import address_of
from resources.engine.doctor.examine import examine
from resources.engine.doctor.finding import Finding, passed


def build_reachable(cluster_assets: ClusterAssets) -> dg.AssetChecksDefinition:
    """The check of one cluster; it runs only on request, because it queries each node."""

    @dg.asset_check(
        asset=cluster_assets.meta_snapshot,
        name=REACHABLE,
        description="The cluster can be backed up from here: every node answers at its address, "
        "in a known release, with valid credentials and certificates, and the directory of "
        "backups can be written and locked. The table has a line for each question, with the next "
        "step, as in the output of shardkeeper doctor. Executing the check asks all questions and "
        "changes nothing; every other request to the cluster updates the check without the table.",
    )
    def reachable(
        context: dg.AssetCheckExecutionContext,
        clusters: ClustersResource,
    ) -> dg.AssetCheckResult:
        with explained():
            reading = clusters.reading()
            at = address_of(reading.cluster(cluster_assets.name))
            directory = reading.repository(cluster_assets.name)
        found = examine(at, str(directory.path), emit=lambda one: context.log.info(str(one)))
        known = AssetHistory.of_run(context.op_execution_context, cluster_assets).last_evaluation(
            cluster_assets.meta_snapshot, REACHABLE
        )
        why = next((one.answer for one in found if one.status == "failed"), "")
        return dg.AssetCheckResult(
            passed=passed(found),
            severity=ERROR,
            metadata={
                **evaluation(cluster_assets, why, since_s(known) or time.time()).metadata,
                **reach_facts(found),
            },
        )

    return reachable


def reach_facts(found: Sequence[Finding]) -> dict[str, dg.MetadataValue]:
    """The table, failures first, and the next step of the first failure."""
    order = ("failed", "warning", "ok")
    rows = [
        {
            "question": one.question,
            "status": one.status,
            "answer": one.answer,
            "next_step": one.next_step,
        }
        for one in sorted(found, key=lambda one: order.index(one.status))
    ]
    failed = [one for one in found if one.status == "failed"]
    facts: dict[str, dg.MetadataValue] = {
        "questions": table(rows),
        "failed": dg.MetadataValue.int(len(failed)),
        "warnings": dg.MetadataValue.int(sum(one.status == "warning" for one in found)),
    }
    if failed:
        facts["next_step"] = dg.MetadataValue.text(failed[0].next_step or failed[0].answer)
    return facts
