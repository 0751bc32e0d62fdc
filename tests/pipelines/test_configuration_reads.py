"""A step reads shardkeeper.yaml once, so all that it does is of one state of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.evaluation import EVERY_SHARD_CURRENT, NOTHING_MISSING, UNDAMAGED
from assets.reachability import REACHABLE
from tests.pipelines.harness import CLUSTER_ASSETS, DagsterHarness

HERE = {"cluster": CLUSTER_ASSETS.name}


@contextmanager
def opens(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Lists each time that the file is opened."""
    opened, original = list[Path](), Path.open

    def counted(self: Path, *args: Any, **more: Any) -> Any:
        if self == path:
            opened.append(self)
        return original(self, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", counted)
        yield opened


def executed(harness: DagsterHarness, asset: dg.AssetKey, name: str) -> dg.ExecuteInProcessResult:
    """Execute one check."""
    selection = dg.AssetSelection.checks(dg.AssetCheckKey(asset, name))
    job = dg.define_asset_job("execute", selection=selection)
    with_job = dg.Definitions.merge(harness.defs, dg.Definitions(jobs=[job]))
    return with_job.resolve_job_def("execute").execute_in_process(instance=harness.instance)


def plan_a_restore(harness: DagsterHarness) -> dg.ExecuteInProcessResult:
    options = {"newdb": "other", "allow_same_server": True, "dry_run": True}
    return harness.run("restore_influxdb", target=HERE, db="telegraf", **options)


def plan_a_merge(harness: DagsterHarness) -> dg.ExecuteInProcessResult:
    return harness.run("merge_influxdb", target=HERE, db="telegraf", dry_run=True)


STEPS: dict[str, Callable[[DagsterHarness], dg.ExecuteInProcessResult]] = {
    "scan": lambda harness: harness.scan(),
    "observe": lambda harness: harness.materialize(CLUSTER_ASSETS.shards),
    "partition": lambda harness: harness.materialize(
        CLUSTER_ASSETS.shard_backup, first=harness.partitions[0]
    ),
    "backup": lambda harness: harness.back_up(),
    "verify": lambda harness: harness.run("verify_influxdb"),
    "restore": plan_a_restore,
    "merge": plan_a_merge,
    "current": lambda harness: executed(harness, CLUSTER_ASSETS.shard_backup, EVERY_SHARD_CURRENT),
    "missing": lambda harness: executed(harness, CLUSTER_ASSETS.backup_set, NOTHING_MISSING),
    "undamaged": lambda harness: executed(harness, CLUSTER_ASSETS.shard_backup, UNDAMAGED),
    "reachable": lambda harness: executed(harness, CLUSTER_ASSETS.meta_snapshot, REACHABLE),
}


@pytest.mark.parametrize("work", STEPS.values(), ids=STEPS.keys())
def test_each_step_reads_the_configuration_once(
    over_cluster: DagsterHarness,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[DagsterHarness], dg.ExecuteInProcessResult],
) -> None:
    assert over_cluster.back_up().success
    with opens((tmp_path / "shardkeeper.yaml").resolve(), monkeypatch) as opened:
        done = work(over_cluster)
    assert done.success
    started = dg.DagsterEventType.STEP_START
    steps = [event for event in done.all_events if event.event_type is started]
    assert steps
    assert len(opened) == len(steps)
