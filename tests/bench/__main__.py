"""`make bench`: python -m tests.bench [beside|alone|deletes|unchanged|workers|scale] --help."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from tests.bench import report, scale
from tests.bench.alone import Step, manifests, shards, unchanged
from tests.bench.beside import Beside, Rounds
from tests.bench.checking import checking as compare_checking
from tests.bench.deletes import deletes
from tests.bench.sets import SETS, Set, fill
from tests.bench.workers import Load, workers
from tests.influxd import Influxd

rounds = click.option("-n", default=7, show_default=True, help="counted rounds")
scale_of = click.option("--scale", default=1.0, show_default=True, help="size of the sets")
chosen = click.option("--sets", default=",".join(SETS), show_default=True, help="which of them")
kept = click.option("--write", is_flag=True, help="put it into the page in docs/")


@click.group()
def main() -> None:
    """Measure whole commands, on servers that are made for it and leave nothing."""


@contextmanager
def _server(wanted: str) -> Iterator[tuple[Influxd, Path, list[Set]]]:
    if not Influxd.installed():
        raise SystemExit("needs influxd: apt-get install influxdb influxdb-client")
    with tempfile.TemporaryDirectory(prefix="shardkeeper-bench-") as directory:
        root = Path(directory)
        with Influxd(root / "influxd") as server:
            yield server, root, [SETS[name] for name in wanted.split(",")]


@main.command()
@rounds
@scale_of
@chosen
@kept
def beside(n: int, scale: float, sets: str, *, write: bool) -> None:
    """Compare with `influxd backup|restore -portable`, in turn."""
    load, _, _ = os.getloadavg()
    with _server(sets) as (server, root, wanted):
        found: dict[str, Rounds] = {}
        for each in wanted:
            found[each.name] = Rounds(fill(server, each, scale))
            click.echo(f"{each.name}: {found[each.name].filled.size_bytes / 1e6:.1f} MB written")
        tools = Beside(server, root)
        for i in range(n + 1):
            for name, into in found.items():
                tools.round(name, into if i else None)
            click.echo(f"round {i} of {n}")
        command = f"python -m tests.bench beside -n {n} --scale {scale:g} --sets {sets}"
        text = report.beside(found, command, server.version, load)
    click.echo(text)
    if write:
        report.PLOT.parent.mkdir(exist_ok=True)
        report.PLOT.write_text(report.plot(report.bars(found)))
        report.write("beside", text)


@main.command()
@click.option("-n", default=3, show_default=True, help="rounds; the middle one counts")
@click.option("--most", default=10_000, show_default=True, help="shards")
@click.option("--manifests", "max_manifests", default=1_000, show_default=True)
@kept
def alone(n: int, most: int, max_manifests: int, *, write: bool) -> None:
    """Ours at great size: many shards, many manifests."""
    load, _, _ = os.getloadavg()
    command = f"python -m tests.bench alone -n {n} --most {most} --manifests {max_manifests}"
    with tempfile.TemporaryDirectory(prefix="shardkeeper-bench-") as directory:
        root = Path(directory)
        for name, counted, steps in (
            ("shards", "shards", shards([most // 4, most // 2, most], n, root)),
            ("manifests", "backups", manifests([max_manifests // 4, max_manifests], n, root)),
        ):
            text = report.alone(_described(steps, counted), command, counted, load)
            click.echo(text)
            if write:
                report.write(name, text)


@main.command("deletes")
@click.option("-n", default=3, show_default=True, help="rounds; the middle one counts")
@click.option("--most", default=1_000_000, show_default=True, help="pending deletes of one file")
@kept
def deletes_(n: int, most: int, *, write: bool) -> None:
    """Back up, verify and restore a shard with very many pending deletes."""
    load, _, _ = os.getloadavg()
    command = f"python -m tests.bench deletes -n {n} --most {most}"
    with tempfile.TemporaryDirectory(prefix="shardkeeper-bench-") as directory:
        steps = deletes([most // 4, most // 2, most], n, Path(directory))
        text = report.alone(_described(steps, "deletes"), command, "deletes", load)
    click.echo(text)
    if write:
        report.write("deletes", text)


def _described(steps: Iterator[Step], counted: str) -> list[Step]:
    found: list[Step] = []
    for step in steps:
        found.append(step)
        click.echo(f"{step.what}, {step.size} {counted}: {step.cost.wall_s:.2f} s")
    return found


@main.command("unchanged")
@rounds
@kept
def unchanged_(n: int, *, write: bool) -> None:
    """`influxd-ctl backup` of a small server where nothing has changed, from start to exit."""
    with _server("telegraf") as (server, root, [small]):
        filled = fill(server, small, 0.02)
        backups = root / "backups"
        backups.mkdir(mode=0o700)
        words = ("-host", server.bind_addr, "-http", server.http_addr)
        cost = unchanged(words, backups, n)
    text = (
        f"`python -m tests.bench unchanged -n {n}`, {filled.shards} shards: "
        f"{cost.wall_s:.2f} s from start to exit, {cost.cpu_s:.2f} s of CPU, "
        f"{cost.peak_mib:.0f} MiB.\n"
    )
    click.echo(text)
    if write:
        report.write("unchanged", text)


@main.command()
@rounds
@scale_of
@chosen
def checking(n: int, scale: float, sets: str) -> None:
    """Compare the two ways to check blocks with each other."""
    with _server(sets) as (server, root, wanted):
        for each in wanted:
            fill(server, each, scale)
            compare_checking(server, each.name, n, root)


@main.command("workers")
@click.option("-n", default=1, show_default=True, help="rounds; the middle one counts")
@click.option("--counts", default="1,2,3,6", show_default=True, help="of worker processes")
@click.option("--nodes", default=6, show_default=True)
@click.option("--rate", default=20.0, show_default=True, help="of each node, in MB/s")
@click.option("--each", default=12, show_default=True, help="shards of each node")
@click.option("--size", default=50.0, show_default=True, help="of a shard, in MB")
@kept
def workers_(
    n: int, counts: str, nodes: int, rate: float, each: int, size: float, *, write: bool
) -> None:
    """Back up and restore nodes with a limited network, with more and more workers."""
    load, _, _ = os.getloadavg()
    wanted = Load(nodes, each, size, rate)
    numbers = [int(number) for number in counts.split(",")]
    command = (
        f"python -m tests.bench workers -n {n} --counts {counts} --nodes {nodes} "
        f"--rate {rate:g} --each {each} --size {size:g}"
    )
    with tempfile.TemporaryDirectory(prefix="shardkeeper-bench-") as directory:
        found = list(workers(wanted, numbers, n, Path(directory), click.echo))
    text = report.workers(found, wanted, command, load)
    click.echo(text)
    if write:
        report.write("workers", text, report.SCALE)


@main.command("scale")
@click.option("--counts", default="1,2,3,6", show_default=True, help="of workers, in real runs")
@click.option("--node", default=100.0, show_default=True, help="of a data node's network, in MB/s")
@click.option("--store", default=1000.0, show_default=True, help="of the repository, in MB/s")
@click.option("--record", default=0.011, show_default=True, help="for Dagster's records, s a shard")
@kept
def scale_(counts: str, node: float, store: float, record: float, *, write: bool) -> None:
    """Simulate backups that are too large to be made here, by costs that are measured here."""
    load, _, _ = os.getloadavg()
    command = (
        f"python -m tests.bench scale --counts {counts} --node {node:g} --store {store:g} "
        f"--record {record:g}"
    )
    with tempfile.TemporaryDirectory(prefix="shardkeeper-bench-") as directory:
        root = Path(directory)
        known = scale.costs(root, record, {"node": node * 1e6, "store": store * 1e6})
        numbers = [int(number) for number in counts.split(",")]
        checked = list(scale.beside_real_runs(root, known, numbers))
    text = report.simulated(known, checked, scale.answers(known), command, load)
    click.echo(text)
    if write:
        report.write("scale", text, report.SCALE)


if __name__ == "__main__":
    main(sys.argv[1:] or ["beside"])
