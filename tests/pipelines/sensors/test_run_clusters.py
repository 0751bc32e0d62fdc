"""Which cluster a run is about, however it was launched."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from pipelines.sensors.run_clusters import clusters_of

CLUSTERS = ("eu", "eu_west", "us")
KEY = dg.AssetKey(["eu_west", "shard_backup"])


@pytest.mark.parametrize(
    ("run", "whose"),
    [
        ({"job_name": "x", "tags": {"shardkeeper/cluster": "us"}}, ["us"]),
        ({"job_name": "__ASSET_JOB", "asset_selection": {KEY}}, ["eu_west"]),
        (
            {"job_name": "__ASSET_JOB", "asset_selection": {KEY, dg.AssetKey(["us", "shards"])}},
            ["eu_west", "us"],
        ),
        (
            {"job_name": "__ASSET_JOB", "asset_check_selection": {dg.AssetCheckKey(KEY, "c")}},
            ["eu_west"],
        ),
        ({"job_name": "any", "step_keys_to_execute": ["eu_west__shard_backup_c"]}, ["eu_west"]),
        ({"job_name": "any", "step_keys_to_execute": ["eu__shard_backup_c"]}, ["eu"]),
        ({"job_name": "restore_eu"}, ["eu"]),
        ({"job_name": "somebody_elses", "asset_selection": {dg.AssetKey(["sales"])}}, []),
    ],
)
def test_a_run_is_of_the_clusters_whose_assets_it_makes(run: Any, whose: list[str]) -> None:
    if "asset_selection" in run:
        run = {**run, "asset_selection": frozenset(run["asset_selection"])}
    if "asset_check_selection" in run:
        run = {**run, "asset_check_selection": frozenset(run["asset_check_selection"])}
    assert clusters_of(dg.DagsterRun(run_id="r", **run), CLUSTERS) == whose
