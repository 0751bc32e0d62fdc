"""Backups in Dagster go into a bucket as into a directory."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from pipelines.definitions import definitions
from resources.engine.verify.verify import verify
from resources.repository.repository import BackupRepository
from tests.pipelines.harness import CLUSTER_ASSETS, DagsterHarness, at, configure, fill, write
from tests.resources.embedded.dev_influxd import DevInfluxd
from tests.s3_server import S3Server
from tests.wire.points import points

URL = "s3://bucket/influxdb"


def test_a_job_backs_up_into_a_bucket_and_another_restores_from_it(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    with (
        S3Server() as server,
        server.environment(),
        DevInfluxd(tmp_path / "source") as source,
        DevInfluxd(tmp_path / "target") as target,
    ):
        fill(source, "telegraf", weeks=range(2))
        harness = DagsterHarness(tmp_path, instance, at(source))
        harness.defs = definitions(configure(tmp_path, URL, at(source), at(target)))
        assert harness.back_up().success
        write(source, "telegraf", weeks=[1], value=2.0)
        assert harness.back_up().success
        [last, first] = harness.events(CLUSTER_ASSETS.backup_set)
        assert (first.metadata["shards_copied"].value, last.metadata["shards_copied"].value) == (
            2,
            1,
        )
        assert str(last.metadata["manifest"].value).startswith(f"{URL}/")
        assert harness.run("restore_influxdb", newdb="copy", db="telegraf").success
        assert points(target, "copy") == points(source, "telegraf")
        assert verify(BackupRepository.open(URL)).problems == ()
