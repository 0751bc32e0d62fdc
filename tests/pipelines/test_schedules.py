"""A cluster has three schedules, which run from the start only if the configuration says so."""

from __future__ import annotations

import dagster as dg

from assets.keys import ClusterAssets
from pipelines.schedules import schedules
from resources.config.values import Cluster, Schedules

EU = ClusterAssets("eu")


def made(**settings: object) -> dict[str, dg.ScheduleDefinition]:
    found = schedules(EU, Cluster(bind="m:8091", **settings))  # type: ignore[arg-type]
    return {one.name: one for one in found}


def test_each_schedule_starts_its_job_at_its_time() -> None:
    found = made(schedules=Schedules(full="0 3 * * *", timezone="Europe/Berlin"))
    assert {name: one.job_name for name, one in found.items()} == {
        "incremental_eu": "back_up_eu",
        "full_eu": "back_up_eu_full",
        "verify_eu": "verify_eu",
    }
    assert found["full_eu"].cron_schedule == "0 3 * * *"
    assert {one.execution_timezone for one in found.values()} == {"Europe/Berlin"}


def test_only_those_that_the_configuration_names_run_from_the_start() -> None:
    running, stopped = dg.DefaultScheduleStatus.RUNNING, dg.DefaultScheduleStatus.STOPPED
    found = made(running=("full", "watch"))
    assert {name: one.default_status for name, one in found.items()} == {
        "incremental_eu": stopped,
        "full_eu": running,
        "verify_eu": stopped,
    }
    assert {one.default_status for one in made().values()} == {stopped}
