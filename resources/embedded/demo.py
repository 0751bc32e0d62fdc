"""`make demo`: backup and restore on an embedded cluster, from the first point to the proof.

The demo runs on loopback and below one temporary directory. It runs the commands that it shows.
"""

from __future__ import annotations

import math
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, cast

from resources.embedded.cluster import EmbeddedCluster

BIN = Path(sys.executable).parent
START_NS = 1_767_225_600_000_000_000  # 2026-01-01, a Thursday
HOUSES = ("north", "east", "south", "west")
PLACES = ("kitchen", "bathroom", "attic")
DELETE = "DELETE FROM climate WHERE room = 'attic' AND time < '2026-01-05T00:00:00Z'"
BOLD, CYAN, PLAIN = ("\033[1m", "\033[36m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


def main() -> int:
    """Run the demo; returns 0 if its last check holds."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="shardkeeper-demo-") as directory:
        root = Path(directory)
        backups = root / "backups"
        backups.mkdir(mode=0o700)
        with (
            EmbeddedCluster(root / "cluster", meta_nodes=1, data_nodes=3) as source,
            EmbeddedCluster(root / "target", meta_nodes=1, data_nodes=2) as target,
        ):
            equal = _story(source, target, backups)
    _say("what next")
    _print("in Dagster:       make dev, then http://127.0.0.1:3000")
    _print("a cluster to try: make cluster")
    _print("your own cluster: .venv/bin/influxd-ctl -bind META-NODE:8091 backup DIRECTORY")
    _print("your own server:  .venv/bin/influxd-ctl -host SERVER:8088 backup DIRECTORY")
    _print(f"({time.monotonic() - began:.1f} s)")
    return 0 if equal else 1


def _story(source: EmbeddedCluster, target: EmbeddedCluster, backups: Path) -> bool:
    here, there = ("-bind", source.meta[0].http_addr), ("-bind", target.meta[0].http_addr)
    _say("three data nodes, two replicas of each shard, three weeks of climate in four houses")
    source.query("CREATE DATABASE house WITH REPLICATION 2")
    source.write("house", _readings(0, 21))
    rows = 21 * 144 * len(PLACES) * len(HOUSES)
    _print(f"{rows} rows written through one of the data nodes")
    _say("the first backup copies every shard, each from one of its owners")
    _run("influxd-ctl", *here, "backup", str(backups))
    _say("one more day arrives, and a user deletes the attics' first four days")
    source.write("house", _readings(21, 1))
    source.query(DELETE, database="house")
    for node in source.data:  # a server does this by itself a moment later
        for shard_id in node.store.shards():
            node.store.compact(shard_id)
    _say("the second backup copies only the shards that changed")
    _run("influxd-ctl", *here, "backup", str(backups))
    _say("one data node is down: its shards are read from their other owners")
    source.stop_node(0)
    source.write("house", _readings(22, 1))
    _run("influxd-ctl", *here, "backup", str(backups))
    _say("list the backups, and verify them")
    _run("shardkeeper", "restore", "-list", str(backups))
    _run("shardkeeper", "verify", str(backups))
    _say("restore into a smaller cluster elsewhere, under another name")
    _run("influxd-ctl", *there, "restore", "-db", "house", "-newdb", "house_again", str(backups))
    _say("the proof: the same query on both clusters")
    before, after = _answers(source, "house"), _answers(target, "house_again")
    _print("                  readings  mean temperature   sum of humidity")
    for name, found in (("source", before), ("target", after)):
        for room, (count, mean, total) in sorted(found.items()):
            _print(f"{name}  {room:<9} {count:8}  {mean:16.4f}  {total:16.1f}")
    _print("equal" if before == after else "DIFFERENT")
    return before == after


def _readings(first_day: int, days: int) -> str:
    """Temperature and humidity of twelve rooms every ten minutes, as line protocol."""
    lines: list[str] = []
    for i in range(first_day * 144, (first_day + days) * 144):
        at = START_NS + i * 600_000_000_000
        for n, (house, room) in enumerate(product(HOUSES, PLACES)):
            swing = math.sin(i / 144 * 2 * math.pi + n)
            lines.append(
                f"climate,house={house},room={room} temperature={18 + n % 5 + 3 * swing:.2f},"
                f"humidity={45 + n - 8 * swing:.1f} {at}"
            )
    return "\n".join(lines)


def _answers(asked: EmbeddedCluster, database: str) -> dict[str, tuple[int, float, float]]:
    query = "SELECT count(temperature), mean(temperature), sum(humidity) FROM climate GROUP BY room"
    reply = asked.query(query, database=database)
    results = cast("list[Mapping[str, Any]]", reply["results"])
    return {
        series["tags"]["room"]: (row[1], round(row[2], 9), round(row[3], 6))
        for series in results[0]["series"]
        for row in series["values"]
    }


def _say(text: str) -> None:
    _print(f"\n{BOLD}# {text}{PLAIN}")


def _run(*words: str) -> None:
    """Show a command, run it and show its output; end the demo if it fails."""
    _print(f"{CYAN}$ {shlex.join(words)}{PLAIN}")
    done = subprocess.run([BIN / words[0], *words[1:]], check=False)  # noqa: S603
    if done.returncode != 0:
        raise SystemExit(done.returncode)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
