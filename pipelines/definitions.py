"""The code location `shardkeeper`; only this module reads the environment."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import dagster as dg

from assets.definition_errors import definition_errors
from assets.history.io_manager import EventLogIOManager
from assets.keys import ClusterAssets
from assets.left_out import left_out_definitions
from assets.lineage import build_assets, build_checks
from assets.messages import what_happened
from pipelines.executors import executor_definition
from pipelines.jobs import (
    back_up_full_job,
    back_up_job,
    back_up_shards_job,
    merge_job,
    restore_job,
    verify_job,
)
from pipelines.schedules import schedules
from pipelines.sensors.adopt_sensor import adopt_sensor
from pipelines.sensors.alerts_sensor import alerts_sensor
from pipelines.sensors.change_sensor import change_sensor
from pipelines.sensors.configuration_sensor import configuration_sensor
from pipelines.sensors.failure_sensor import failure_sensor
from pipelines.sensors.lost_runs import lost_runs_sensor
from pipelines.sensors.rpo_sensor import rpo_sensor
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource, TargetResource
from resources.config.reading import HINT, Problem, configuration_path, read_sound
from resources.config.values import Configuration, Executor
from resources.errors import UsageError

URL_VARIABLE = "SHARDKEEPER_URL"
"""The variable with the UI's address, used if the file has none; `make dev` sets it."""
_LOG = logging.getLogger(__name__)


def definitions(path: Path, url: str = "") -> dg.Definitions:
    """All definitions for Dagster, of all configured clusters.

    An error in one cluster leaves out only that cluster; a red check takes its place.

    Args:
        path: the configuration file; if it is a directory, the embedded clusters below it.
        url: of the UI, if the configuration has none.

    Raises:
        UsageError: nothing in the configuration is usable; the message names the line.
    """
    reading = read_sound(path)
    configuration, where = reading.configuration, str(path.resolve())
    url = configuration.url or url
    problems, all_cluster_assets = list(reading.problems), list[dg.Definitions]()
    for name, settings in configuration.backed_up.items():
        chosen, wrong = _chosen(settings.executor)
        problems += [Problem("", _at(f"{path}: clusters.{name}", error)) for error in wrong]
        try:
            all_cluster_assets.append(
                of_cluster(ClusterAssets(name), configuration, url, executor=chosen)
            )
        except (UsageError, *definition_errors()) as error:
            message = UsageError(f"{path}: clusters.{name}: {error}", hint=HINT)
            problems.append(Problem(name, message))
    executor, wrong = _chosen(configuration.executor)
    problems += [Problem("", _at(str(path), error)) for error in wrong]
    for problem in problems:
        _LOG.error("%s", what_happened(problem.error))
    if not all_cluster_assets:
        raise problems[0].error
    reported = (
        failure_sensor(configuration, url),
        configuration_sensor(path, reading, tuple(problems), url),
        lost_runs_sensor(),
    )
    left_out = {p.cluster: [q.error for q in problems if q.cluster == p.cluster] for p in problems}
    left_out.pop("", None)
    return dg.Definitions.merge(
        *all_cluster_assets,
        *(left_out_definitions(name, errors, where) for name, errors in left_out.items()),
        dg.Definitions(
            resources={
                "io_manager": EventLogIOManager(),
                "clusters": ClustersResource(configuration=where),
                "repository": BackupRepositoryResource(configuration=where),
                "target": TargetResource.configure_at_launch(configuration=where),
            },
            sensors=reported,
            executor=executor or dg.in_process_executor,
        ),
    )


def _chosen(settings: Executor | None) -> tuple[dg.ExecutorDefinition | None, list[UsageError]]:
    """The executor to use, None for the default, which is used instead of a wrong one, too."""
    try:
        return (executor_definition(settings) if settings else None), []
    except UsageError as error:
        return None, [error]


def _at(place: str, error: UsageError) -> UsageError:
    return UsageError(f"{place}: {error.what}", hint=error.hint)


def of_cluster(
    cluster_assets: ClusterAssets,
    configuration: Configuration,
    url: str,
    *,
    executor: dg.ExecutorDefinition | None = None,
) -> dg.Definitions:
    """The definitions of one cluster.

    Args:
        executor: of its backups; None: that of all jobs.
    """
    name = cluster_assets.name
    settings = configuration.clusters[name]
    back_up = back_up_job(cluster_assets, executor)
    back_up_shards = back_up_shards_job(cluster_assets, executor)
    back_up_jobs = [back_up, back_up_shards]
    return dg.Definitions(
        assets=build_assets(cluster_assets, settings, configuration.executor_of(name)),
        asset_checks=build_checks(cluster_assets, settings.objectives),
        jobs=[
            back_up,
            back_up_full_job(cluster_assets, executor),
            back_up_shards,
            verify_job(cluster_assets),
            merge_job(cluster_assets),
            restore_job(cluster_assets, settings, configuration.executor_of(name), executor),
        ],
        schedules=schedules(cluster_assets, settings),
        sensors=[
            change_sensor(cluster_assets, settings, back_up_jobs),
            rpo_sensor(cluster_assets, settings, back_up_jobs),
            adopt_sensor(cluster_assets, settings),
            alerts_sensor(cluster_assets, settings, configuration, url),
        ],
    )


@dg.definitions
def defs() -> dg.Definitions:
    path = configuration_path(os.environ, Path.cwd())
    return definitions(path, os.environ.get(URL_VARIABLE, ""))
