"""`backup_set`: a restore point of the whole server."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from assets.failures import explained
from assets.history.asset_history import Ledger
from assets.keys import KINDS, Family
from assets.metadata.backups import set_facts
from assets.run_backup import run_backup
from assets.run_config import BackUpConfig
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource
from resources.config.values import Objectives
from resources.engine.stored.succession import Succession

DESCRIPTION = """
A restore point of the whole cluster.

That is its metastore and the newest archive of every shard, named in a manifest. The job `{job}`
makes one in two steps. The first copies the shards that changed, checks them and commits the
manifest; a shard that cannot be copied does not hold up the others, but fails the run. The second
reports what the manifest holds.

"Unsynced" means that the cluster has changed since, or that the last run was limited to a part of
it. If the last run failed, look there: what it did save is restorable.
"""


def build_backup_set(family: Family, objectives: Objectives) -> dg.AssetsDefinition:
    """The graph has two steps on purpose.

    Dagster takes the versions of a step's inputs when the step starts. An asset that makes new
    versions of its inputs and records itself in one step would be stale at once.
    """
    copy_changed_shards, report_manifest = _copying(family), _reporting(family)

    @dg.config_mapping
    def for_the_copies(config: BackUpConfig) -> dict[str, Any]:
        values = {**config.model_dump(), "verify": config.verify.name}
        chosen = {name: value for name, value in values.items() if value is not None}
        return {copy_changed_shards.name: {"config": chosen}}

    @dg.graph_asset(
        key=family.backup_set,
        ins={
            "snapshot": dg.AssetIn(family.meta_snapshot, dagster_type=dg.Nothing),
            "shard_backups": dg.AssetIn(family.shard_backup, dagster_type=dg.Nothing),
        },
        description=DESCRIPTION.format(job=family.back_up_job),
        config=for_the_copies,
        group_name=family.name,
        kinds=KINDS,
        tags=family.tags,
    )
    def backup_set(snapshot: Any, shard_backups: Any) -> Any:
        return report_manifest(copy_changed_shards(snapshot=snapshot, shard_backups=shard_backups))

    policy = dg.FreshnessPolicy.time_window(
        fail_window=timedelta(seconds=objectives.recovery_point),
        warn_window=timedelta(seconds=warn_s) if (warn_s := objectives.warn_after_s) else None,
    )
    return backup_set.map_asset_specs(lambda spec: spec.replace_attributes(freshness_policy=policy))


def _copying(family: Family) -> dg.OpDefinition:
    @dg.op(
        name=f"{family.name}_copy_changed_shards",
        ins={"snapshot": dg.In(dg.Nothing), "shard_backups": dg.In(dg.Nothing)},
        out=dg.Out(str, description="The name of the manifest."),
        pool=family.pool,
        description="Copy what changed, check it, and commit it with its manifest.",
    )
    def copy_changed_shards(
        context: dg.OpExecutionContext,
        config: BackUpConfig,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> str:
        return run_backup(context, family, config, clusters, repository).manifest_file

    return copy_changed_shards


def _reporting(family: Family) -> dg.OpDefinition:
    @dg.op(
        name=f"{family.name}_report_manifest",
        out=dg.Out(dg.Nothing, is_required=False),
        description="Report what the manifest holds; the restore point exists from here on.",
    )
    def report_manifest(
        context: dg.OpExecutionContext, repository: BackupRepositoryResource, manifest_file: str
    ) -> Iterator[Any]:
        with explained():
            backups = repository.open(family.name)
            stored = backups.manifest(manifest_file)
            kept = len(backups.current().archives)
            changes = Succession(backups).changes(stored)
        ledger = Ledger.of_run(context, family)
        found = set_facts(stored, backups.location, kept, changes, ledger.source_version())
        if stored.manifest.limited:
            ledger.limited_set(found)
        else:
            yield dg.Output(None, metadata=found)

    return report_manifest
