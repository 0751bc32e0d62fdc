"""How long pages of the UI take with ten thousand shards: python -m tests.live.pages [SHARDS].

The web server, the daemon and the browser are real, the shards' records written by hand: the pages
show what Dagster has recorded, and ask no cluster. Needs Debian's chromium.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from assets.history.asset_history import AssetHistory, Kept, Seen
from assets.keys import ClusterAssets
from resources.embedded.cluster import EmbeddedCluster
from tests.live.deployment import Deployment
from tests.live.live_harness import BACKUP, NAME, configure
from tests.screenshots.browser import Browser

TIMES = 3
MISSING = 40


def main() -> None:
    shards = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory(prefix="shardkeeper-") as name:
        root = Path(name)
        with (
            EmbeddedCluster(root / "source", 1, 1) as source,
            EmbeddedCluster(root / "target", 1, 1) as to,
        ):
            config = configure(root, source, to)
            dagster = Deployment(root / "home", {"SHARDKEEPER_CONFIG": str(config)})
            _record(root / "home", shards)
            with dagster, Browser(width=1400, height=900) as browser:
                _measure(dagster.url, browser)


def _record(home: Path, shards: int) -> None:
    """Write down a backup of all shards but the last ones."""
    os.chdir(home)  # dagster.yaml names its folders relative to where it is started
    with dg.DagsterInstance.from_config(str(home)) as instance:
        history = AssetHistory.outside(instance, ClusterAssets(NAME))
        keys = [f"db{number % 50}/autogen/{number}" for number in range(1, shards + 1)]
        history.add_partitions(keys)
        facts = {"bytes": 4096, "values": 1000, "seconds": 0.1}
        history.back_up([Kept(Seen(key, "a" * 32, {}), facts) for key in keys[:-MISSING]])


def _measure(url: str, browser: Browser) -> None:
    asset = f"{url}/assets/{BACKUP}?view="

    def shows(address: str, *texts: str) -> Callable[[], None]:
        def scan() -> None:
            browser.open(address)
            browser.wait_for(*texts)

        return scan

    def dialog() -> None:
        browser.click("Materialize…", kind="button")
        browser.wait_for("Launch backfill")

    graph = f"{url}/locations/shardkeeper/asset-groups/{NAME}/lineage"
    partitions = shows(f"{asset}partitions", "db1/autogen/1", f"Missing ({MISSING})")
    _time("the group's graph", lambda: None, shows(graph, "shard_backup", "restored_shards"))
    _time(
        "page of shard_backup",
        lambda: None,
        shows(f"{asset}overview", "The newest archive of each shard"),
    )
    _time("its partitions", lambda: None, partitions)
    _time("the launch dialog", partitions, dialog)


def _time(what: str, before: Callable[[], None], do: Callable[[], None]) -> None:
    """Print the seconds that it takes, several times."""
    took: list[float] = []
    for _ in range(TIMES):
        before()
        began = time.monotonic()
        do()
        took.append(time.monotonic() - began)
    sys.stdout.write(f"{what:24} " + "  ".join(f"{one:4.1f}" for one in took) + " s\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
