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
from tests.pipelines.world import FAMILY, World

HERE = {"cluster": FAMILY.name}


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


def executed(world: World, asset: dg.AssetKey, name: str) -> dg.ExecuteInProcessResult:
    """Execute one check."""
    selection = dg.AssetSelection.checks(dg.AssetCheckKey(asset, name))
    job = dg.define_asset_job("execute", selection=selection)
    with_job = dg.Definitions.merge(world.defs, dg.Definitions(jobs=[job]))
    return with_job.resolve_job_def("execute").execute_in_process(instance=world.instance)


def plan_a_restore(world: World) -> dg.ExecuteInProcessResult:
    options = {"newdb": "other", "allow_same_server": True, "dry_run": True}
    return world.run("restore_influxdb", target=HERE, db="telegraf", **options)


def plan_a_merge(world: World) -> dg.ExecuteInProcessResult:
    return world.run("merge_influxdb", target=HERE, db="telegraf", dry_run=True)


STEPS: dict[str, Callable[[World], dg.ExecuteInProcessResult]] = {
    "scan": lambda world: world.look(),
    "observe": lambda world: world.materialize(FAMILY.shards),
    "partition": lambda world: world.materialize(FAMILY.shard_backup, first=world.partitions[0]),
    "backup": lambda world: world.back_up(),
    "verify": lambda world: world.run("verify_influxdb"),
    "restore": plan_a_restore,
    "merge": plan_a_merge,
    "current": lambda world: executed(world, FAMILY.shard_backup, EVERY_SHARD_CURRENT),
    "missing": lambda world: executed(world, FAMILY.backup_set, NOTHING_MISSING),
    "undamaged": lambda world: executed(world, FAMILY.shard_backup, UNDAMAGED),
    "reachable": lambda world: executed(world, FAMILY.meta_snapshot, REACHABLE),
}


@pytest.mark.parametrize("work", STEPS.values(), ids=STEPS.keys())
def test_each_step_reads_the_configuration_once(
    over_cluster: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[World], dg.ExecuteInProcessResult],
) -> None:
    assert over_cluster.back_up().success
    with opens((tmp_path / "shardkeeper.yaml").resolve(), monkeypatch) as opened:
        done = work(over_cluster)
    assert done.success
    started = dg.DagsterEventType.STEP_START
    steps = [event for event in done.all_events if event.event_type is started]
    assert steps
    assert len(opened) == len(steps)
