"""What has happened in the pictures: a cluster is backed up, written to, restored and merged.

    with Story(Path("/srv/shardkeeper")) as story:
        story.first_backup()

It is what `make dev` shows, except that it stands still while a picture is taken.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from resources.config.embedded import (
    BACKUPS_DIRECTORY,
    SOURCE,
    SOURCE_DIRECTORY,
    TARGET_DIRECTORY,
)
from resources.embedded.cluster import EmbeddedCluster
from resources.embedded.sample_data import DAY_NS, fill, power, write_batch
from tests.live.deployment import REPOSITORY, Deployment, wait_for

BACKUP = f"{SOURCE}/shard_backup"


class Story:
    """An embedded cluster, an empty one, and Dagster over both.

    Args:
        directory: where all of it lies; pictures show this path.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = ExitStack()
        self._batch = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            here = self.directory
            self.target = stack.enter_context(EmbeddedCluster(here / TARGET_DIRECTORY, 1, 2))
            self.source = stack.enter_context(EmbeddedCluster(here / SOURCE_DIRECTORY, 1, 3))
            fill(self.source, time.time_ns())
            (here / BACKUPS_DIRECTORY).mkdir(mode=0o700)
            # Without a configuration file, the embedded clusters of the folder are served.
            os.environ.pop("SHARDKEEPER_CONFIG", None)
            self.dagster = stack.enter_context(Deployment(here, {}))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return self.dagster.url

    def location(self, kind: str, name: str) -> str:
        """Where the UI shows one of the "jobs", "sensors" or "schedules"."""
        return f"{self.url}/locations/{REPOSITORY['repositoryLocationName']}/{kind}/{name}"

    def first_backup(self) -> None:
        """The sensor asks for it by itself; then it is switched off, for the pictures' sake."""
        job = f"back_up_{SOURCE}"
        wait_for("the first backup", lambda: self._ended(job))
        self.poll(on=False)
        wait_for("the last backup to end", lambda: self._all_ended(job))

    def poll(self, *, on: bool) -> None:
        """Switch the sensor that asks for backups."""
        self.dagster.turn("Sensor", f"watch_{SOURCE}", on=on)

    def _ended(self, job: str) -> bool:
        return any(run["status"] == "SUCCESS" for run in self.dagster.runs(job))

    def _all_ended(self, job: str) -> bool:
        return all(run["status"] in ("SUCCESS", "FAILURE") for run in self.dagster.runs(job))

    def readings_come(self, batches: int) -> None:
        """New points, and some that come days late, change a few shards."""
        for _ in range(batches):
            write_batch(self.source, self._batch, time.time_ns())
            self._batch += 1

    def lose_a_database(self) -> None:
        """A user drops `machines`, and its writers make it anew with what comes in."""
        self.source.query("DROP DATABASE machines")
        self.source.query(
            "CREATE DATABASE machines WITH DURATION 30d REPLICATION 3 SHARD DURATION 1d NAME month"
        )
        now = time.time_ns()
        self.source.write("machines", "\n".join(power(now - DAY_NS // 4, now)))

    def new_database(self) -> None:
        """A database that no backup has seen yet, and a look sees."""
        self.source.query(
            "CREATE DATABASE orders WITH DURATION 90d REPLICATION 3 SHARD DURATION 7d NAME quarter"
        )
        now = time.time_ns()
        self.source.write("orders", "\n".join(power(now - 21 * DAY_NS, now)))
        self.scan()

    def run(self, job: str, config: dict[str, Any] | None = None, *assets: str) -> str:
        """Launch a job and see it succeed; the run's id."""
        run_id = self.dagster.launch(job, config, assets=assets)
        outcome = self.dagster.outcome(run_id)
        if outcome != "SUCCESS":
            raise AssertionError(f"{job}: {outcome}\n{self.dagster.why(run_id)}")
        return run_id

    def changes(self) -> None:
        """Some shards change, and a look has seen it."""
        while self.dagster.stale(f"{SOURCE}/backup_set")[""] != "STALE":
            # The sensor's last tick may have come after it was switched off.
            self.readings_come(4)
            self.scan()

    def scan(self) -> str:
        """Materialize `meta_snapshot`, which copies nothing."""
        return self.run("__ASSET_JOB", None, f"{SOURCE}/meta_snapshot")

    def back_up(self) -> str:
        return self.run(f"back_up_{SOURCE}")
