"""One source, one directory of backups and one Dagster instance, as a deployment has them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.loader import LoadingContextForTest

from assets.evaluation import EVERY_SHARD_CURRENT
from assets.keys import ClusterAssets
from pipelines.definitions import definitions
from resources.embedded.cluster import EmbeddedCluster
from resources.repository.repository import BackupRepository
from tests.influxd import Influxd

CLUSTER_ASSETS = ClusterAssets("influxdb")
DAY_NS = 86_400 * 10**9
FIRST_NS = 1_600_000_000 * 10**9
"""Shard groups of a policy without end are weeks, so points 7 days apart are in two shards."""

ROOT = Path(__file__).parents[2]

Where = Mapping[str, Any]
"""A cluster's settings in shardkeeper.yaml."""


def at(server: Influxd, **more: Any) -> Where:
    return {"host": server.bind_addr, "http": server.http_addr, **more}


def configure(
    directory: Path,
    backups: Path | str,
    source: Where,
    target: Where | None = None,
    **more: Any,
) -> Path:
    """Write shardkeeper.yaml for one source, `influxdb`, and where its backups are restored to."""
    clusters = {
        "influxdb": {
            **source,
            "repository": "here",
            "target": "elsewhere" if target else "embedded",
        },
        **({"elsewhere": dict(target)} if target else {}),
    }
    document = {"repositories": {"here": {"path": str(backups)}}, "clusters": clusters, **more}
    path = directory / "shardkeeper.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def fill(server: Influxd, db: str, weeks: Sequence[int], value: float = 1.0) -> None:
    """Write ten points into one shard for each of these weeks."""
    server.create_database(db)
    write(server, db, weeks, value)


def write(server: Influxd, db: str, weeks: Sequence[int], value: float) -> None:
    server.write(
        db,
        [
            f"cpu,host=h{host} value={value} {FIRST_NS + week * 7 * DAY_NS + host}"
            for week in weeks
            for host in range(10)
        ],
    )


def write_to(cluster: EmbeddedCluster, week: int, value: float) -> None:
    """Write five points into the shard of a week of `telegraf`."""
    lines = [f"cpu,host=a v={value} {FIRST_NS + week * 7 * DAY_NS + i}" for i in range(5)]
    cluster.write("telegraf", "\n".join(lines))


def launched(job: str) -> ReconstructableJob:
    """A job as a process of its own loads it, for what SHARDKEEPER_CONFIG names now.

    Python and Dagster each remember what was loaded last, which may be another test's.
    """
    sys.modules.pop("pipelines.definitions", None)
    ReconstructableJob.get_repository_definition.cache_clear()
    ReconstructableJob.get_definition.cache_clear()
    found = ReconstructableRepository.for_module("pipelines.definitions", "defs", str(ROOT))
    return found.get_reconstructable_job(job)


class DagsterHarness:
    """What a person sees and does in the UI, without the UI."""

    def __init__(
        self,
        directory: Path,
        instance: dg.DagsterInstance,
        source: Where,
        *,
        target: Where | None = None,
        backups: Path | None = None,
        **more: Any,
    ) -> None:
        self.backups = backups or directory / "backups"
        self.instance = instance
        self._described: str | None = None
        self.backups.mkdir(exist_ok=True)
        self.defs = definitions(configure(directory, self.backups, source, target, **more))

    # --- doing -----------------------------------------------------------------------------

    def run(
        self, job: str, *, target: Mapping[str, Any] | None = None, **config: Any
    ) -> dg.ExecuteInProcessResult:
        """Launch a job as the launchpad does: what is given changes its default configuration.

        A restore or a merge is carried out, where the launchpad proposes a dry run.
        """
        found = self.defs.resolve_job_def(job)
        run_config = copy.deepcopy(dict(found.run_config or {}))
        asset = next(iter(run_config["ops"].values()))
        done = {"dry_run": False} if "dry_run" in asset["config"] else {}
        asset["config"] = {**asset["config"], **done, **config}
        if target:
            run_config["resources"]["target"]["config"].update(target)
        return found.execute_in_process(
            instance=self.instance, run_config=run_config, raise_on_error=False
        )

    def back_up(self, **config: Any) -> dg.ExecuteInProcessResult:
        return self.run("back_up_influxdb", **config)

    def scan(self) -> dg.ExecuteInProcessResult:
        return self.materialize(CLUSTER_ASSETS.meta_snapshot)

    def materialize(
        self, key: dg.AssetKey, *more: dg.AssetKey, first: str = "", last: str = "", **config: Any
    ) -> dg.ExecuteInProcessResult:
        """Materialize assets, or a range of the partitions of one."""
        tags = {}
        if first:
            tags = {
                "dagster/asset_partition_range_start": first,
                "dagster/asset_partition_range_end": last or first,
            }
        return self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[key, *more],
            tags=tags,
            run_config={"ops": {key.to_python_identifier(): {"config": config}}} if config else {},
            raise_on_error=False,
        )

    def sense(self, name: str, cursor: str | None = None) -> tuple[Any, str | None]:
        """Let a sensor tick; what it says, and its cursor afterwards."""
        [sensor] = [one for one in self.defs.sensors or () if one.name == name]
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=cursor,
            definitions=self.defs,
            resources=dict(self.defs.resources or {}),
        ) as context:
            events = sensor.evaluate_tick(context)
        return events, events.cursor

    def tell_of_failures(self) -> str:
        """Let the sensor that tells of failed runs tick; what it says of itself."""
        events, self._described = self.sense("tell_of_failures", self._described)
        return str(events.skip_message)

    # --- seeing ----------------------------------------------------------------------------

    @property
    def repository(self) -> BackupRepository:
        return BackupRepository.open(self.backups)

    @property
    def partitions(self) -> list[str]:
        return list(self.instance.get_dynamic_partitions("influxdb/shards"))

    def status(self, key: dg.AssetKey, partition: str | None = None) -> StaleStatus:
        """What the UI says of an asset or a partition: FRESH, STALE or MISSING."""
        resolver = CachingStaleStatusResolver(
            self.instance,
            self.defs.resolve_asset_graph(),
            LoadingContextForTest(self.instance),
        )
        return resolver.get_status(key, partition)

    def shards(self) -> dict[str, StaleStatus]:
        """The status of every shard's backup."""
        return {key: self.status(CLUSTER_ASSETS.shard_backup, key) for key in self.partitions}

    def events(self, key: dg.AssetKey, partition: str | None = None) -> list[Any]:
        """The materializations of an asset or of one of its partitions, newest first."""
        found = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(key, asset_partitions=[partition] if partition else None),
            limit=1000,
        )
        return [record.asset_materialization for record in found.records]

    def check(
        self, asset: dg.AssetKey = CLUSTER_ASSETS.shard_backup, name: str = EVERY_SHARD_CURRENT
    ) -> Any:
        """The latest evaluation of a check, by default that every shard is current."""
        key = dg.AssetCheckKey(asset, name)
        [record] = self.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        assert record.event is not None
        event = record.event.dagster_event
        assert event is not None
        return event.asset_check_evaluation_data

    def backed_up(self) -> dict[str, int]:
        """How often each shard's backup was recorded."""
        return {key: len(self.events(CLUSTER_ASSETS.shard_backup, key)) for key in self.partitions}


def failure(result: dg.ExecuteInProcessResult) -> Any:
    """The user's failure data of the step that failed; of several, of one with wrong settings."""
    failed = [event for event in result.all_events if event.is_step_failure]
    events: list[Any] = [event.step_failure_data.user_failure_data for event in failed]
    wrong = [one for one in events if _exit_code(one) == "USAGE"]
    return (wrong or events)[0]


def _exit_code(events: Any) -> str:
    code = events.metadata.get("exit_code")
    return code.value if code is not None else ""
