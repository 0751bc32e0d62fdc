"""`make demo`: the main job, from the first point to the proof, on two private servers."""

from __future__ import annotations

import math
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from tests.influxd import Influxd, wait_until

BIN = Path(sys.executable).parent
DAY_NS = 86_400_000_000_000
START_NS = 1_767_225_600_000_000_000  # 2026-01-01, a Thursday
ROOMS = ("kitchen", "bathroom", "attic")


def readings(first_day: int, days: int) -> list[str]:
    """A house: temperature and humidity of three rooms every ten minutes."""
    lines: list[str] = []
    for i in range(first_day * 144, (first_day + days) * 144):
        at = START_NS + i * 600_000_000_000
        for n, room in enumerate(ROOMS):
            swing = math.sin(i / 144 * 2 * math.pi + n)
            lines.append(
                f"climate,room={room} temperature={20 + n + 3 * swing:.2f},"
                f"humidity={45 + 5 * n - 8 * swing:.1f} {at}"
            )
    return lines


def say(text: str) -> None:
    click.echo()
    click.secho(f"# {text}", bold=True)


def run(*words: str) -> None:
    """Show a command, run it, show what it says; stop the demo if it fails."""
    click.secho("$ " + shlex.join(words), fg="cyan")
    done = subprocess.run([BIN / words[0], *words[1:]], text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.returncode)


def answers(server: Influxd, database: str) -> list[Any]:
    query = "SELECT count(temperature), mean(temperature), sum(humidity) FROM climate GROUP BY room"
    return server.query(query, db=database)


def story(source: Influxd, target: Influxd, backups: Path) -> None:
    here = ("-host", source.bind_addr, "-http", source.http_addr)
    there = ("-host", target.bind_addr, "-http", target.http_addr)
    say("a server with three weeks of a house's climate")
    source.create_database("house")
    source.write("house", readings(0, 21))
    click.echo(f"influxd {source.version} on {source.bind_addr}: {21 * 144 * 3} rows written")
    say("the first backup copies every shard")
    run("influxd-ctl", *here, "backup", str(backups))
    say("one more day arrives, and somebody deletes the attic's first week")
    source.write("house", readings(21, 1))
    source.query(
        f"DELETE FROM climate WHERE room = 'attic' AND time < {START_NS + 4 * DAY_NS}", db="house"
    )
    wait_until(
        lambda: not source.tombstone_files("house"),
        within_s=30,
        what="the delete to be carried out",
    )
    say("the second backup copies only the shards that changed")
    run("influxd-ctl", *here, "backup", str(backups))
    say("what is in the directory, and is it sound?")
    run("shardkeeper", "restore", "-list", str(backups))
    run("shardkeeper", "verify", str(backups))
    say("restore into another server, under another name")
    run("influxd-ctl", *there, "restore", "-db", "house", "-newdb", "house_again", str(backups))
    say("the proof: both servers, the same question")
    before, after = answers(source, "house"), answers(target, "house_again")
    click.echo("                  readings  mean temperature   sum of humidity")
    for name, found in (("source", before), ("target", after)):
        for line in found[0]["series"]:
            _, count, mean, total = line["values"][0]
            click.echo(f"{name}  {line['tags']['room']:<9} {count:8}  {mean:16.4f}  {total:16.1f}")
    if before != after:
        raise SystemExit("the servers differ")
    click.secho("equal", fg="green")


def main() -> None:
    if not Influxd.installed():
        raise SystemExit("the demo needs influxd: apt-get install influxdb influxdb-client")
    with tempfile.TemporaryDirectory(prefix="shardkeeper-demo-") as directory:
        root = Path(directory)
        backups = root / "backups"
        backups.mkdir(mode=0o700)
        with Influxd(root / "source") as source, Influxd(root / "target") as target:
            story(source, target, backups)
    say("what next")
    click.echo("your own server:  .venv/bin/influxd-ctl -host localhost:8088 backup DIRECTORY")
    click.echo("in Dagster:       make dev, then http://127.0.0.1:3000")


if __name__ == "__main__":
    main()
