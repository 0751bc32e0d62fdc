"""Ours at great size, on the embedded cluster in a process of its own: nothing may grow faster.

Every command is timed from start to exit, and run once more to count what it asks of whom.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resources.clients.cluster import Cluster
from resources.clients.meta import MetaClient
from resources.engine.backup.run import back_up
from resources.engine.events import Run
from resources.engine.options import BackupOptions
from resources.repository.repository import BackupRepository
from tests.bench.cost import Cost, measured
from tests.live.large import many_shards

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]
DATABASES = 50

COUNTING = """
import collections, json, sys
asked = collections.Counter()
def hear(event, given):
    if event == "socket.connect":
        asked["connect %s" % given[1][1]] += 1
    elif event == "http.client.send" and given[1][:4] in (b"GET ", b"POST"):
        asked["http %s" % given[0].port] += 1
sys.addaudithook(hear)
into = sys.argv.pop(1)
from pipelines.ctl.start import shardkeeper
try:
    shardkeeper()
finally:
    with open(into, "w") as file:
        json.dump(asked, file)
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """Requests of one command."""

    meta: int
    data: int
    """Of the data node that was asked most."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command at one size."""

    what: str
    size: int
    cost: Cost
    asked: Asked | None
    """None: it was not counted."""


def shards(sizes: Sequence[int], n: int, root: Path) -> Iterator[Step]:
    """What a directory with one whole backup of `n` shards costs."""
    for size in sizes:
        with many_shards(root / f"cluster {size}", size, DATABASES) as (bind, _):
            backups = root / f"backups {size}"
            backups.mkdir(mode=0o700)
            there = ("-bind", bind)
            first = measured((BIN / "shardkeeper", *there, "backup", backups))
            yield Step("first backup", size, first, None)
            yield _step("backup, nothing changed", size, (*there, "backup", backups), bind, n=n)
            yield _step("restore -list", size, ("restore", "-list", backups), bind, n=n)
            sizes_only = ("verify", "-sample", "1", "-day", "0", backups)
            yield _step("verify, by size", size, sizes_only, bind, n=n)


def manifests(sizes: Sequence[int], n: int, root: Path) -> Iterator[Step]:
    """What a directory costs that grew by `n` incremental backups."""
    with many_shards(root / "growing", 200, 4) as (bind, write):
        backups = root / "grown"
        backups.mkdir(mode=0o700)
        repository = BackupRepository.open(backups)
        source = Cluster(MetaClient(bind))
        made = 0
        for size in sizes:
            while made < size:
                write(3, float(made))
                back_up(source, repository, BackupOptions(), Run(lambda _: None))
                made += 1
            there = ("-bind", bind)
            yield _step("backup, nothing changed", size, (*there, "backup", backups), bind, n=n)
            made += n + 1  # each has stored a manifest
            yield _step("restore -list", size, ("restore", "-list", backups), bind, n=n)
            a_little = ("verify", "-sample", "1", "-day", "0", backups)
            yield _step("verify, by size", size, a_little, bind, n=n)


def _step(what: str, size: int, words: Sequence[str | Path], bind: str, *, n: int) -> Step:
    costs = [measured((BIN / "shardkeeper", *words)) for _ in range(n)]
    middle = sorted(costs, key=lambda cost: cost.wall_s)[n // 2]
    asked = _asked(words)
    meta = bind.rpartition(":")[2]
    data = [times for who, times in asked.items() if who.split()[1] != meta]
    counted = Asked(asked.get(f"http {meta}", 0), max(data, default=0))
    return Step(what, size, middle, counted)


def _asked(words: Sequence[str | Path]) -> Mapping[str, int]:
    with tempfile.NamedTemporaryFile() as events:
        measured((sys.executable, "-c", COUNTING, events.name, *words), {"PYTHONPATH": str(ROOT)})
        return json.load(events)


def unchanged(server_words: Sequence[str | Path], backups: Path, n: int) -> Cost:
    """The median of a backup that finds nothing to do, after a first one."""
    words = (BIN / "influxd-ctl", *server_words, "backup", backups)
    measured(words)
    costs = [measured(words) for _ in range(n + 1)][1:]
    return Cost(
        costs[0].began_s,
        statistics.median(cost.wall_s for cost in costs),
        statistics.median(cost.cpu_s for cost in costs),
        max(cost.peak_mib for cost in costs),
    )
