"""What Dagster costs with ten thousand shards: python -m tests.live.scale [SHARDS [CHANGED]].

The cluster is real and in another process, so that its work is not counted. Most archives are
links to one that was really made, under a manifest with the times that the cluster tells: making
ten thousand would take long and is not Dagster's part.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
from msgspec.structs import replace

import assets.run_backup
import assets.scan
from resources.clients.cluster import Cluster
from resources.clients.meta import MetaClient
from resources.engine.backup.run import back_up
from resources.engine.events import Run
from resources.engine.options import BackupOptions
from resources.model import ShardID
from resources.repository.formats.manifest import Limits
from tests.live.large import many_shards
from tests.pipelines.harness import DagsterHarness

T = TypeVar("T")


def main() -> None:
    shards = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    changed = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000
    with tempfile.TemporaryDirectory(prefix="shardkeeper-") as name:
        root = Path(name)
        with many_shards(root / "cluster", shards) as (bind, write):
            _measure(root, bind, shards, changed, write)


def _measure(
    root: Path, bind: str, shards: int, changed: int, write: Callable[[int, float], None]
) -> None:
    home = root / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        harness = DagsterHarness(root, instance, {"bind": bind, "limits": {"parallel": 2}})
        _back_up_all(harness, bind)
        say(f"{shards} shards; CPU seconds of this process, wall seconds, peak memory")
        asked, cursor = timed("first look of the sensor", lambda: harness.sense("watch_influxdb"))
        assert not asked.run_requests, asked
        timed("a look when nothing changed", lambda: harness.sense("watch_influxdb", cursor))
        write(1, 2.0)
        asked, _ = timed("a look when one has", lambda: harness.sense("watch_influxdb", cursor))
        assert len(asked.run_requests) == 1
        _, done = timed("first tick of adopt", lambda: harness.sense("adopt_influxdb", None))
        timed("its next tick", lambda: harness.sense("adopt_influxdb", done))
        write(changed, 3.0)
        asked, _ = timed(f"a look when {changed} have", lambda: harness.sense("watch_influxdb"))
        assert len(asked.run_requests) == 1
        result = timed("that run, which records what was made elsewhere", harness.back_up)
        assert result.success
        write(changed, 4.0)
        with engine_time() as engine:
            result = timed(f"a run that copies {changed}", harness.back_up)
        assert result.success
        say(f"{'of that, the engine':40} {engine[0]:8.1f} {engine[1]:8.1f}")


def _back_up_all(harness: DagsterHarness, bind: str) -> None:
    repository = harness.repository
    source = Cluster(MetaClient(bind))
    only = BackupOptions(limits=Limits(shard_id=ShardID(1)))
    report = back_up(source, repository, only, Run(lambda _: None))
    [template] = report.manifest.files
    _, metastore = source.metastore()
    copies = source.inventory(metastore).copies
    with repository.begin(command="scale") as writer:
        assert report.manifest.details is not None
        data, _ = source.metastore()
        meta, digest = writer.put_meta(data, metastore.max_node_id)
        entries = []
        for place in metastore.places():
            details = template.details
            assert details is not None
            modified = copies[place.shard_id][0].last_modified_ns
            file_name = writer.name.shard_file(place.shard_id)
            os.link(harness.backups / template.file_name, harness.backups / file_name)
            entries.append(
                replace(
                    template,
                    shard_id=place.shard_id,
                    file_name=file_name,
                    last_modified_ns=modified or 0,
                    details=replace(details, modified_ns=modified),
                )
            )
        manifest = replace(
            report.manifest,
            meta=meta,
            files=tuple(entries),
            limits=Limits(),
            limited=False,
            details=replace(report.manifest.details, meta_sha256=digest),
        )
        writer.commit(manifest)


@contextmanager
def engine_time() -> Iterator[list[float]]:
    """CPU and wall seconds that runs meanwhile spend in the engine, which the other part is not."""
    spent = [0.0, 0.0]

    def counting(do: Callable[..., T]) -> Callable[..., T]:
        def counted(*args: Any, **more: Any) -> T:
            cpu, wall = time.process_time(), time.perf_counter()
            try:
                return do(*args, **more)
            finally:
                spent[0] += time.process_time() - cpu
                spent[1] += time.perf_counter() - wall

        return counted

    before = assets.run_backup.plan_step, assets.scan.plan_backup
    assets.run_backup.plan_step = counting(before[0])
    assets.scan.plan_backup = counting(before[1])
    try:
        yield spent
    finally:
        assets.run_backup.plan_step, assets.scan.plan_backup = before


def timed(what: str, do: Callable[[], T]) -> T:
    cpu, wall = time.process_time(), time.perf_counter()
    found = do()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(f"{what:40} {cpu:8.1f} {wall:8.1f} {memory:8.0f} MiB")
    return found


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
