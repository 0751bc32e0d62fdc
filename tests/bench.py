"""`make bench`: beside `influxd backup|restore -portable`, interleaved, on a private influxd.

Ratios of whole commands, start-up included; ours sync what they store and read back what they
restore, the original does neither. `python -m tests.bench --help` has the options.
"""

from __future__ import annotations

import itertools
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click

from resources.repository.archive import ArchiveWriter, Place, inspect_archive, scratch_in
from resources.repository.store import DirectoryStore
from tests.influxd import Influxd, wait_until

BIN = Path(sys.executable).parent
DAY_S = 86_400
START_S = 1_672_617_600  # 2023-01-02, a Monday
BATCH = 20_000


def noise(days: int, per_day: int) -> Iterator[str]:
    """Full-precision floats at uneven times: nothing in a TSM block shrinks any more."""
    r = random.Random(1)
    for i in range(days * per_day):
        at = (START_S * 10**6 + i * DAY_S * 10**6 // per_day + r.randrange(10**5)) * 1000
        for m in range(20):
            x, y, z = r.random(), r.random(), r.random()
            yield f"vibration,machine=m{m:03} x={x!r},y={y!r},z={z!r} {at}"


def hosts(days: int, per_day: int) -> Iterator[str]:
    """What Telegraf writes: two decimals, counters, flags, at even times."""
    r = random.Random(2)
    counter = 0
    for i in range(days * per_day):
        at = (START_S + i * DAY_S // per_day) * 10**9
        for h in range(20):
            counter += r.randrange(200_000)
            yield (
                f"cpu,host=web{h:03},dc=dc{h % 3} user={r.uniform(0, 100):.2f},"
                f"idle={r.uniform(0, 100):.2f},bytes={counter}i,up={'true' if h else 'false'} {at}"
            )


def fleet(shards: int) -> Iterator[str]:
    """Many small shards: an hour each."""
    r = random.Random(3)
    for hour, minute, m in itertools.product(range(shards), range(60), range(20)):
        at = (START_S + hour * 3600 + minute * 60) * 10**9
        yield f"probe,machine=m{m:03} a={r.random()!r},b={r.random()!r} {at}"


def fill(server: Influxd, name: str, shard_duration: str, lines: Iterable[str]) -> int:
    """Write a set; returns the bytes of its TSM files."""
    server.create_database(name, with_=f"SHARD DURATION {shard_duration}")
    stream = iter(lines)
    while batch := list(itertools.islice(stream, BATCH)):
        server.write(name, batch)
    return sum(path.stat().st_size for path in server.flush(name))


def timed(*words: str | Path) -> tuple[float, float]:
    """(wall, CPU) seconds of one command."""
    os.sync()
    cpu, began = _children_cpu_s(), time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{words}: {done.stdout}{done.stderr}")
    return time.monotonic() - began, _children_cpu_s() - cpu


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def shards_enabled(server: Influxd, database: str, files: int) -> Callable[[], bool]:
    return lambda: len(server.tsm_files(database)) >= files


def compare(server: Influxd, name: str, n: int, root: Path) -> None:
    """Both tools in turn; prints the medians of the ratios, pair by pair."""
    here = ("-host", server.bind_addr, "-http", server.http_addr)
    files = len(server.tsm_files(name))
    ratios: dict[str, list[float]] = {"backup": [], "cpu": [], "restore": []}
    peer_s: list[float] = []
    for i in range(n + 1):
        theirs, ours = root / f"{name}-{i}-theirs", root / f"{name}-{i}-ours"
        ours.mkdir(mode=0o700)
        peer = timed(
            "influxd", "backup", "-portable", "-host", server.bind_addr, "-db", name, theirs
        )
        own = timed(BIN / "shardkeeper", *here, "backup", "-db", name, ours)
        began = time.monotonic()
        timed(
            "influxd", "restore", "-portable", "-host", server.bind_addr, "-db", name,
            "-newdb", "again", theirs,
        )  # fmt: skip
        # The original leaves before the server is done.
        wait_until(shards_enabled(server, "again", files), within_s=120, what="the restore to end")
        peer_restore = time.monotonic() - began
        server.drop_database("again")
        own_restore, _ = timed(
            BIN / "shardkeeper", *here, "restore", "-db", name, "-newdb", "again", ours
        )
        server.drop_database("again")
        if i:  # the first round warms up
            ratios["backup"].append(own[0] / peer[0])
            ratios["cpu"].append(own[1] / peer[1])
            ratios["restore"].append(own_restore / peer_restore)
            peer_s.append(peer[0])
        shutil.rmtree(theirs)
        shutil.rmtree(ours)
    shown = "  ".join(f"{what} {statistics.median(found):.2f}" for what, found in ratios.items())
    click.echo(f"{name:<6} {shown}  (original: {statistics.median(peer_s):.2f} s a backup)")


def checking(server: Influxd, name: str, n: int, root: Path) -> None:
    """What the two ways to check blocks cost: scratch while storing, or reading back."""
    from resources.clients.snapshotter import SnapshotterClient

    client = SnapshotterClient(server.bind_addr)
    path = client.shard_paths(name)[0]
    buffer, tar = memoryview(bytearray(256 << 10)), bytearray()
    with client.open_shard(path.shard_id) as stream:
        while got := stream.recv_into(buffer):
            tar += buffer[:got]
    place = Place(path.database, path.policy, path.shard_id)
    found: dict[str, list[float]] = {"structure": [], "scratch": [], "read back": []}
    store = DirectoryStore(root)
    for i in range(n):
        for way in found:
            began = time.process_time()
            with scratch_in(str(root)) as scratch:
                with store.create(f"{name}-{i}") as sink:
                    archive = ArchiveWriter(
                        sink,
                        inner_name="shard.tar",
                        place=place,
                        level="default",
                        checked="full" if way == "scratch" else "structure",
                        scratch=scratch,
                    )
                    for at in range(0, len(tar), len(buffer)):
                        archive.feed(memoryview(tar)[at : at + len(buffer)])
                    archive.finish()
                if way == "read back":
                    with store.open(f"{name}-{i}") as source:
                        inspect_archive(
                            source,
                            max_bytes=len(tar),
                            place=place,
                            checked="full",
                            scratch=scratch,
                        )
            found[way].append(time.process_time() - began)
            store.delete(f"{name}-{i}")
    size = len(tar) / 1e9
    shown = "  ".join(f"{way} {statistics.median(s) / size:.2f}" for way, s in found.items())
    click.echo(f"{name:<6} CPU seconds per GB: {shown}  (a shard of {len(tar) / 1e6:.1f} MB)")


@click.command()
@click.option("-n", default=7, show_default=True, help="counted rounds, after one to warm up")
@click.option("--scale", default=1.0, show_default=True, help="size of the data set")
@click.argument("what", type=click.Choice(["tools", "checking"]), default="tools")
def main(n: int, scale: float, what: str) -> None:
    """Compare with the original tools, or the two ways to check blocks with each other."""
    if not Influxd.installed():
        raise SystemExit("needs influxd: apt-get install influxdb influxdb-client")
    with tempfile.TemporaryDirectory(prefix="shardkeeper-bench-") as directory:
        root = Path(directory)
        with Influxd(root / "influxd") as server:
            sets = {
                "noise": ("1d", noise(4, int(5760 * scale))),
                "hosts": ("1d", hosts(4, int(5760 * scale))),
                "fleet": ("1h", fleet(int(300 * scale))),
            }
            for name, (shard_duration, lines) in sets.items():
                size = fill(server, name, shard_duration, lines)
                click.echo(f"{name:<6} {size / 1e6:.1f} MB written")
            if what == "tools":
                click.echo("ratios to the original, medians; below 1 is better")
            for name in sets:
                (compare if what == "tools" else checking)(server, name, n, root)


if __name__ == "__main__":
    main()
