"""The schedules of a cluster; users switch them on and off in the UI."""

from __future__ import annotations

import dagster as dg

from assets.keys import ClusterAssets
from resources.config.values import Cluster


def schedules(cluster_assets: ClusterAssets, settings: Cluster) -> list[dg.ScheduleDefinition]:
    """An incremental backup at short intervals, a full one at night, a reading of all archives."""
    crons, jobs = (
        settings.schedules,
        {
            "incremental": (cluster_assets.back_up_job, "Back up what changed."),
            "full": (cluster_assets.back_up_full_job, "Back up every shard, changed or not."),
            "verify": (
                cluster_assets.verify_job,
                "Read every archive and compare it with its manifest.",
            ),
        },
    )
    return [
        dg.ScheduleDefinition(
            name=f"{name}_{cluster_assets.name}",
            job_name=job,
            cron_schedule=getattr(crons, name),
            execution_timezone=crons.timezone,
            default_status=(
                dg.DefaultScheduleStatus.RUNNING
                if name in settings.running
                else dg.DefaultScheduleStatus.STOPPED
            ),
            description=description,
            tags=cluster_assets.tags,
        )
        for name, (job, description) in jobs.items()
    ]
