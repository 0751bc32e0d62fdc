"""What was acknowledged is there, whatever happens to the process and whatever else writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from resources.embedded.shards.store import ShardStore
from resources.tsm.tombstone import MAX_TIME_NS
from tests.resources.embedded.shards.content import NOW_NS, ONE, Open, held, lines, of

WRITER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from resources.embedded.shards.line_protocol import parse_lines
from resources.embedded.shards.store import ShardStore
store = ShardStore(Path(sys.argv[1]), clock=lambda: 0)
store.create("db", "rp", 1)
for i in range(1_000_000):
    store.write(1, parse_lines(b"m,k=%d v=%d %d" % (i % 7, i, i), now_ns=0).points)
    if i % 50 == 49:
        store.flush(1)
    if i % 70 == 69:
        store.delete(1, lambda key: b"k=3" in key)
    print(i, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 60, 333])
def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path, acknowledged: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path.cwd()
    ) as writer:
        assert writer.stdout is not None
        for _ in range(acknowledged):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().splitlines()
    done = int(rest[-1]) + 1 if rest and rest[-1].isdigit() else acknowledged
    store = ShardStore(tmp_path, clock=lambda: 0)
    found = {time for points in store.points(ONE) for time in points.times.tolist()}
    # What was under way may be there or not.
    assert found in (after(done), after(done) | {done}, after(done + 1))
    store.close()


def after(n: int) -> set[int]:
    """The times that WRITER leaves after `n` rounds."""
    times: set[int] = set()
    for i in range(n):
        times.add(i)
        if i % 70 == 69:
            times -= {time for time in times if time % 7 == 3}
    return times


def test_the_end_of_a_cut_log_counts_for_nothing(store: ShardStore, reopened: Open) -> None:
    store.write(ONE, lines("m v=1 1"))
    store.write(ONE, lines("m v=2 2"))
    wal = store.directory / "wal/db/rp/1.wal"
    whole = wal.read_bytes()
    for cut in range(len(whole)):
        store.close()
        wal.write_bytes(whole[:cut])
        store = ShardStore(store.directory, clock=lambda: NOW_NS)
        n_whole = 1 if cut >= len(whole) // 2 else 0
        assert held(store) == ({"m#!~#v": [(1, 1.0)]} if n_whole else {})
    store.write(ONE, lines("m v=3 3"))
    store.close()
    assert held(reopened()) == {"m#!~#v": [(1, 1.0), (3, 3.0)]}


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_done_the_points_are_those_of_a_dictionary(
    store: ShardStore, reopened: Open, seed: int
) -> None:
    dice = Random(seed)
    model: dict[str, dict[int, float]] = {}
    for _ in range(120):
        match dice.choice("wwwwwdfcr"):
            case "w":
                for _ in range(dice.randrange(1, 20)):
                    key, time, value = dice.choice("abc"), dice.randrange(60), dice.random()
                    store.write(ONE, lines(f"m,k={key} v={value!r} {time}"))
                    model.setdefault(key, {})[time] = value
            case "d":
                key, low = dice.choice("abc"), dice.randrange(60)
                high = dice.choice([low, low + 5, MAX_TIME_NS])
                store.delete(ONE, of(f"m,k={key}".encode()), low, high)
                kept = {t: v for t, v in model.pop(key, {}).items() if not low <= t <= high}
                if kept:
                    model[key] = kept
            case "f":
                store.flush(ONE)
            case "c":
                store.compact(ONE)
            case _:
                store = reopened()
        assert held(store) == {
            f"m,k={key}#!~#v": sorted(model[key].items()) for key in sorted(model)
        }


def test_many_threads_write_read_and_save_at_once(store: ShardStore) -> None:
    def run(what: Callable[[int], object]) -> None:
        for i in range(60):
            what(i)

    def save(_: int) -> None:
        with store.snapshot(ONE) as members:
            assert all(member.path.exists() for member in members)

    def read(_: int) -> None:
        assert all(len(points.times) for points in store.points(ONE))

    def write(k: int) -> Callable[[int], None]:
        return lambda i: store.write(ONE, lines(f"m,k={k} v={i} {i}"))

    jobs = [*(write(k) for k in range(3)), save, read, lambda _: store.compact(ONE)]
    with ThreadPoolExecutor(len(jobs)) as pool:
        for running in [pool.submit(run, job) for job in jobs]:
            running.result()
    assert [len(points.times) for points in store.points(ONE)] == [60, 60, 60]
