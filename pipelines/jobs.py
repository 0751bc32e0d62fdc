"""What is launched by hand or by a schedule: back a server up, restore it."""

from __future__ import annotations

import dagster as dg

from assets.config import BackUpConfig, RestoreConfig
from assets.family import Family
from resources.cluster import InfluxServerResource


def back_up_job(family: Family) -> dg.UnresolvedAssetJobDefinition:
    """Look, copy what changed, record the restore point; one run, whatever changed."""
    return dg.define_asset_job(
        family.back_up_job,
        selection=dg.AssetSelection.assets(family.meta_snapshot, family.backup_set),
        config=dg.RunConfig(ops={family.backup_set.to_python_identifier(): BackUpConfig()}),
        executor_def=dg.in_process_executor,
        description="Back up the server: look at it, copy every shard that changed since its "
        "newest archive, check the copies, and make a restore point. An unchanged server costs a "
        "look. Run it as often as you can bear to lose data.",
        tags={"shardkeeper/server": family.name},
    )


def restore_job(family: Family, target: InfluxServerResource) -> dg.UnresolvedAssetJobDefinition:
    """Restore into `target`, unless the launch says otherwise."""
    return dg.define_asset_job(
        family.restore_job,
        selection=dg.AssetSelection.assets(family.restored_meta),
        config=dg.RunConfig(
            ops={family.restored_meta.to_python_identifier(): RestoreConfig()},
            resources={"target": target},
        ),
        executor_def=dg.in_process_executor,
        description="Restore from the backups into the target server: everything, or a database, "
        "policy or shard, under its own name or a new one, in the latest state or that of a "
        "time. Try it with dry_run: true first. Existing databases are never written to.",
        tags={"shardkeeper/server": family.name},
    )
