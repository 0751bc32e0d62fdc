"""Why a sensor waits, and which backup it asks for."""

from __future__ import annotations

import dagster as dg
import pytest

from assets.keys import ClusterAssets
from pipelines.sensors.backoff import BackOff
from pipelines.sensors.requests import default_status, request_backup, running_if, why_waiting
from resources.config.values import Cluster

EU = ClusterAssets("eu")
AT = 1_795_341_060.0


def test_a_request_names_the_job_the_cluster_and_the_reason() -> None:
    [request] = list(request_backup(EU, "2 shards have changed").run_requests or [])
    assert request.job_name == "back_up_eu"
    assert request.tags["shardkeeper/cluster"] == "eu"
    assert request.tags["shardkeeper/why"] == "2 shards have changed"


@pytest.mark.parametrize(
    ("failures", "terminated", "why"),
    [
        (1, False, "the last backup failed;"),
        (2, False, "the last 2 backups failed;"),
        (0, True, "the last requested run was terminated;"),
        (3, True, "the last requested run"),
    ],
)
def test_the_reason_for_waiting_has_its_end_and_what_ends_it_sooner(
    failures: int, terminated: bool, why: str
) -> None:
    text = why_waiting(BackOff("", failures, AT, terminated), EU)
    assert text.startswith(why)
    assert "the next attempt is at 09:51:00 UTC" in text
    assert "back_up_eu" in text


def test_a_sensor_runs_from_the_start_if_the_configuration_says_so() -> None:
    settings = Cluster(bind="m:8091", running=("watch",))
    assert default_status(settings, "watch") is dg.DefaultSensorStatus.RUNNING
    assert default_status(settings, "adopt") is dg.DefaultSensorStatus.STOPPED
    assert running_if(True) is dg.DefaultSensorStatus.RUNNING
