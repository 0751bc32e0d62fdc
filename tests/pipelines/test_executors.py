"""Runs whose steps share nothing but the backups and Dagster's storage, as in containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import HandledOutputData
from dagster._core.instance import DagsterInstance

from assets.history.io_manager import LABEL, EventLogIOManager
from resources.embedded.cluster import EmbeddedCluster
from tests.pipelines.harness import CLUSTER_ASSETS, DagsterHarness, launched

REPORT = f"{CLUSTER_ASSETS.name}_report_manifest"
# Each step is a process forked from one that has imported what definitions are made of, which
# takes seconds, and has made none.
IMPORTED = ["assets.lineage", "pipelines.jobs", "pipelines.sensors.change_sensor"]
FORKED = {"execution": {"config": {"start_method": {"forkserver": {"preload_modules": IMPORTED}}}}}


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[DagsterInstance]:
    """An instance that has no place on this disk for what steps hand over."""
    (tmp_path / "no directory").write_text("")
    (tmp_path / "dagster.yaml").write_text(f"""\
telemetry: {{enabled: false}}
storage: {{sqlite: {{base_dir: {tmp_path / "storage"}}}}}
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
local_artifact_storage:
  module: dagster._core.storage.root
  class: LocalArtifactStorage
  config: {{base_dir: {tmp_path / "no directory"}}}
""")
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made


def test_a_backup_whose_steps_are_processes_of_their_own_hands_nothing_over_on_disk(
    cluster: EmbeddedCluster,
    tmp_path: Path,
    shared: DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = {"bind": cluster.meta[0].http_addr}
    harness = DagsterHarness(tmp_path, shared, where, executor="dagster:multiprocess_executor")
    monkeypatch.setenv("SHARDKEEPER_CONFIG", str(tmp_path / "shardkeeper.yaml"))
    job = launched("back_up_influxdb")
    with dg.execute_job(job, instance=shared, run_config=FORKED) as result:
        assert result.success
        output = [event.event_specific_data for event in result.all_events]
    steps = {event.pid for event in result.all_events if event.is_step_start}
    assert len(steps) == 4
    [handed] = [one for one in output if isinstance(one, HandledOutputData)]
    [manifest] = harness.backups.glob("*.manifest")
    assert handed.metadata[LABEL].value == manifest.name
    # A step that is launched again alone finds what the run before told it.
    last = dg.ReexecutionOptions(result.run_id, [f"{CLUSTER_ASSETS.name}__backup_set.{REPORT}"])
    with dg.execute_job(job, instance=shared, run_config=FORKED, reexecution_options=last) as again:
        assert again.success
    points = [
        event.metadata["restore_point"].value for event in harness.events(CLUSTER_ASSETS.backup_set)
    ]
    assert points == [manifest.stem] * 2


def test_what_is_more_than_a_short_text_is_refused(instance: dg.DagsterInstance) -> None:
    @dg.op
    def make() -> list[int]:
        return [1]

    @dg.op
    def take(value: list[int]) -> None: ...

    @dg.job(resource_defs={"io_manager": EventLogIOManager()})
    def job() -> None:
        take(make())

    result = job.execute_in_process(instance=instance, raise_on_error=False)
    [failed] = [event for event in result.all_events if event.is_step_failure]
    assert "make outputs list: steps pass short texts" in str(failed.step_failure_data.error)
