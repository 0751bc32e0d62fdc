"""The code location `shardkeeper`, and the one place that looks at the environment."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import dagster as dg

from assets.checks import build_checks
from assets.cluster import build_assets
from assets.family import Family
from assets.handover import Handover
from pipelines.jobs import (
    back_up_full_job,
    back_up_job,
    merge_job,
    restore_job,
    verify_job,
)
from pipelines.schedules import schedules
from pipelines.sensors import failure_sensor, sensors
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource, TargetResource
from resources.config.reading import configuration_path, read_configuration
from resources.config.values import Cluster
from resources.errors import UsageError, shown


def definitions(path: Path) -> dg.Definitions:
    """Everything that Dagster is to know, for all configured clusters.

    Args:
        path: the configuration file; of a directory, the embedded clusters below it.

    Raises:
        UsageError: the configuration cannot be; the message has the line.
    """
    configuration = read_configuration(path)
    where = str(path.resolve())
    families = [
        of_cluster(Family(name), settings, where)
        for name, settings in configuration.backed_up.items()
    ]
    return dg.Definitions.merge(
        *families,
        dg.Definitions(
            resources={
                "io_manager": Handover(),
                "clusters": ClustersResource(configuration=where),
                "repository": BackupRepositoryResource(configuration=where),
                "target": TargetResource.configure_at_launch(configuration=where),
            },
            sensors=[failure_sensor(configuration)],
            executor=_executor(configuration.executor),
        ),
    )


def of_cluster(family: Family, settings: Cluster, configuration: str) -> dg.Definitions:
    """What belongs to one cluster."""
    target = TargetResource(configuration=configuration, cluster=settings.target)
    return dg.Definitions(
        assets=build_assets(family, settings),
        asset_checks=build_checks(family, settings.objectives),
        jobs=[
            back_up_job(family),
            back_up_full_job(family),
            verify_job(family),
            merge_job(family, configuration),
            restore_job(family, target),
        ],
        schedules=schedules(family, settings),
        sensors=sensors(family, settings),
    )


def _executor(name: str) -> dg.ExecutorDefinition:
    """Copying is work for threads, so a run needs no more processes than its own."""
    if not name:
        return dg.in_process_executor
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"executor: {shown(name)} cannot be loaded: {error}",
            hint="write module:attribute, such as dagster_k8s:k8s_job_executor, and install it",
        ) from None
    if not isinstance(found, dg.ExecutorDefinition):
        raise UsageError(f"executor: {shown(name)} is no executor of Dagster's")
    return found


@dg.definitions
def defs() -> dg.Definitions:
    return definitions(configuration_path(os.environ, Path.cwd()))
