"""`restored_meta`: what was restored, the target, and the proof."""

import warnings
from collections.abc import Iterator

import dagster as dg

from assets.keys import KINDS, ClusterAssets
from assets.messages import what_happened
from resources.backup_repository import BackupRepositoryResource
from resources.errors import ShardkeeperError

DESCRIPTION = """
What was restored, the target, and the proof.

The databases and policies that a restore created on a target, with all their shards. A restore
checks every archive before it changes the target, and reads every shard back afterwards. If
anything fails, it drops what it created, and nothing else.

Only the job `{job}` materializes this asset. Its plan, with `dry_run`, and a failed restore are
observations of it; neither replaces the last successful one. *Observe* reports which restore points
are newer than the restored one, and changes nothing.
"""


def build_restored_meta(cluster_assets: ClusterAssets) -> dg.AssetsDefinition:
    """Build an observed asset: a materializable one would be red after any failed run.

    So no button restores, and neither a wrong click nor a mistyped plan hides the last restore.
    """
    with warnings.catch_warnings():
        # Dagster marks the decorator beta; which of its features to use is our choice.
        warnings.simplefilter("ignore", dg.BetaWarning)

        @dg.multi_observable_source_asset(
            name=f"observe_{cluster_assets.name}_restored_meta",
            specs=[
                dg.AssetSpec(
                    cluster_assets.restored_meta,
                    deps=[cluster_assets.backup_set],
                    description=DESCRIPTION.format(job=cluster_assets.restore_job),
                    skippable=True,
                    group_name=cluster_assets.name,
                    kinds=KINDS,
                    tags=cluster_assets.tags,
                )
            ],
        )
        def restored_meta(
            context: dg.AssetExecutionContext, repository: BackupRepositoryResource
        ) -> Iterator[dg.ObserveResult]:
            event = context.instance.get_latest_materialization_event(cluster_assets.restored_meta)
            last = event.asset_materialization if event else None
            try:
                names = repository.open(cluster_assets.name).store.names()
            except ShardkeeperError as error:  # an observation does not fail
                context.log.warning(what_happened(error))
                return
            points = sorted(n.removesuffix(".manifest") for n in names if n.endswith(".manifest"))
            restored = str(last.metadata["restore_point"].value) if last else ""
            newer = [point for point in points if point > restored]
            context.log.info(f"to restore, launch the job {cluster_assets.restore_job}")
            yield dg.ObserveResult(
                asset_key=cluster_assets.restored_meta,
                metadata={
                    "restored": restored or "nothing yet",
                    "restore_points_since": len(newer),
                    "newest_restore_point": points[-1] if points else "none",
                },
            )

        return restored_meta
