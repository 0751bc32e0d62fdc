"""What a server answers and what its files hold, in one form that can be compared."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from resources.tsm.check import check_tsm
from resources.tsm.deletions import Deletions
from resources.tsm.merge import ShardFile, series_points
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource
from resources.tsm.tombstone import parse_tombstones
from tests.influxd import Influxd
from tests.resources.tsm.points import Name, Points, Value, plain

Rows = dict[bytes, list[tuple[int, Value]]]


def answered(server: Influxd, db: str) -> Rows:
    """All points of a database as the server tells them, by TSM key."""
    found: Rows = {}
    # One by one: fields of one name and two types would be cast to one.
    for [measurement] in server.rows("SHOW MEASUREMENTS", db=db):
        [result] = server.query(f'SELECT * FROM "{measurement}" GROUP BY *', db=db)
        for series in result["series"]:
            tags = tuple(sorted(tag for tag in series.get("tags", {}).items() if tag[1]))
            for i, field in enumerate(series["columns"][1:], 1):
                values = [(row[0], row[i]) for row in series["values"] if row[i] is not None]
                if values:
                    found[Name(measurement, tags, field).key] = values
    return found


def shard(paths: list[Path]) -> list[ShardFile]:
    files: list[ShardFile] = []
    for path in paths:
        tombstones = path.with_suffix(".tombstone")
        files.append(
            (
                TSMFile(BytesSource(path.read_bytes())),
                Deletions(parse_tombstones(tombstones.read_bytes()) if tombstones.exists() else ()),
            )
        )
    return files


def kept(paths: list[Path]) -> Rows:
    """All points of a shard's files, by TSM key."""
    return {s.key: plain(s.times, s.values) for s in series_points(shard(paths))}


def as_written(points: Mapping[Name, Points]) -> Rows:
    return {of.key: list(values) for of, values in points.items()}


def assert_whole(paths: list[Path]) -> None:
    """We find the files whole, and so does influx_inspect where it is installed."""
    for path in paths:
        assert check_tsm(BytesSource(path.read_bytes())).size_bytes == path.stat().st_size
    if shutil.which("influx_inspect"):
        verify = ["influx_inspect", "verify", "-dir", str(paths[0].parents[4])]
        done = subprocess.run(verify, capture_output=True, text=True, check=True)
        assert "Broken Blocks: 0 /" in done.stdout
