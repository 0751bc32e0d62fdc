"""Floats of one measurement into Arrow, beside `influx_inspect export` of the same file, in turn.

    python -m tests.bench.points PATH/influx_inspect [rounds] [millions of points]

Each program has one core. The figures are points per second of CPU, since machines are busy; the
ratio is that of a round, and the middle one counts.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from resources.points.arrow import record_batch, schema_of
from resources.points.batches import Batches
from resources.points.table import Table
from resources.tsm.deletions import Deletions
from resources.tsm.layout import BlockType
from resources.tsm.merge import series_windows
from resources.tsm.reader import TSMFile
from resources.tsm.source import FileSource
from resources.tsm.writer import TSMWriter

SERIES = 20
T0 = 1_600_000_000_000_000_000
S = 1_000_000_000


def write(path: Path, n_points: int) -> None:
    """A shard's file: gauges with one decimal that change with every point, every 10 s."""
    dice = np.random.default_rng(1)
    times = T0 + np.arange(n_points // SERIES, dtype=np.int64) * 10 * S
    with path.open("wb") as file:
        writer = TSMWriter(file.write)
        for i in range(SERIES):
            values = np.round(50 + np.cumsum(dice.normal(0, 0.3, len(times))), 1)
            writer.write(b"cpu,host=web-%02d#!~#usage" % i, BlockType.FLOAT, times, values)
        writer.finish()


def read(path: Path) -> int:
    """All points as record batches; returns how many."""
    table = Table.of({b"host"}, {b"usage": {BlockType.FLOAT}})
    schema = schema_of(table, {}, "str")
    batches, rows = Batches(table), 0
    with path.open("rb") as file:
        files = [(TSMFile(FileSource(file.fileno())), Deletions())]
        for found in batches.of(series_windows(files)):
            rows += record_batch(found, table, schema, "str").num_rows
        for found in batches.finish():
            rows += record_batch(found, table, schema, "str").num_rows
    return rows


def cpu_s(*command: object) -> float:
    """The CPU time of a command that has one core."""
    before = os.times()
    subprocess.run(
        ["taskset", "-c", "0", *map(str, command)], check=True, stdout=subprocess.DEVNULL
    )
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def main(inspect: str, rounds: str = "5", millions: str = "2") -> None:
    n_points = int(float(millions) * 1_000_000)
    with tempfile.TemporaryDirectory(prefix="shardkeeper-points-") as directory:
        shard = Path(directory, "data", "db", "autogen", "1")
        shard.mkdir(parents=True)
        Path(directory, "wal").mkdir()
        path = shard / "000000001-000000001.tsm"
        write(path, n_points)
        python = (sys.executable, "-m", "tests.bench.points")
        base = cpu_s(*python, "-read", "")
        ours, theirs = [], []
        for _ in range(int(rounds)):
            ours.append(cpu_s(*python, "-read", path) - base)
            folders = ("-datadir", Path(directory, "data"), "-waldir", Path(directory, "wal"))
            out = Path(directory, "out.lp")
            theirs.append(cpu_s(inspect, "export", *folders, "-database", "db", "-out", out))
            out.unlink()
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        size = path.stat().st_size / 1e6
    sys.stdout.write(
        f"{n_points} points, {size:.1f} MB; into Arrow {n_points / statistics.median(ours):,.0f}, "
        f"influx_inspect export {n_points / statistics.median(theirs):,.0f} points a second of "
        f"CPU; {statistics.median(ratios):.1f} times as fast\n"
    )


if __name__ == "__main__":
    if sys.argv[1] == "-read":
        sys.stdout.write(f"{read(Path(sys.argv[2])) if sys.argv[2] else 0}\n")
    else:
        main(*sys.argv[1:])
