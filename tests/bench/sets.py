"""What is backed up: the kinds of data that InfluxDB holds, the same for the same scale."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tests.influxd import Influxd

DAY_S = 86_400
START_S = 1_672_617_600  # 2023-01-02, a Monday
BATCH = 20_000
TEXT = """
GET POST /api/v1/query /login /metrics 200 404 500 upstream timeout while reading response header
from client request id session cache miss retry connection pool exhausted
"""


@dataclass(frozen=True, slots=True)
class Set:
    """One database of a kind of data."""

    name: str
    what: str
    shard_duration: str
    lines: Callable[[float], Iterator[str]]
    """Line protocol at a scale."""


def plant(scale: float) -> Iterator[str]:
    """Full-precision floats at uneven times: nothing in a TSM block shrinks any more."""
    r = random.Random(1)
    days, per_day = 8, int(17_280 * scale)
    for i in range(days * per_day):
        at = (START_S * 10**6 + i * DAY_S * 10**6 // per_day + r.randrange(10**5)) * 1000
        for m in range(20):
            x, y, z = r.random(), r.random(), r.random()
            yield f"vibration,machine=m{m:03} x={x!r},y={y!r},z={z!r} {at}"


def telegraf(scale: float) -> Iterator[str]:
    """Two decimals, counters and flags at even times."""
    r = random.Random(2)
    counter = 0
    days, per_day = 8, int(17_280 * scale)
    for i in range(days * per_day):
        at = (START_S + i * DAY_S // per_day) * 10**9
        for h in range(20):
            counter += r.randrange(200_000)
            yield (
                f"cpu,host=web{h:03},dc=dc{h % 3} user={r.uniform(0, 100):.2f},"
                f"idle={r.uniform(0, 100):.2f},bytes={counter}i,up={'true' if h else 'false'} {at}"
            )


def logs(scale: float) -> Iterator[str]:
    """Lines of text, which TSM compresses by itself, and what they are counted by."""
    r, words = random.Random(4), TEXT.split()
    for i in range(int(1_200_000 * scale)):
        at = START_S * 10**9 + i * 28 * DAY_S * 10**9 // int(1_200_000 * scale)
        text = " ".join(r.choice(words) for _ in range(12))
        yield (
            f'log,app=a{r.randrange(40):02} line="{text} {r.getrandbits(64):x}",'
            f"status={r.choice((200, 404, 500))}i,seconds={r.expovariate(4)!r} {at}"
        )


def fleet(scale: float) -> Iterator[str]:
    """Many small shards, of an hour each."""
    r = random.Random(3)
    for hour, minute, m in itertools.product(range(int(1000 * scale)), range(60), range(20)):
        at = (START_S + hour * 3600 + minute * 60) * 10**9
        yield f"probe,machine=m{m:03} a={r.random()!r},b={r.random()!r} {at}"


SETS = {
    each.name: each
    for each in (
        Set("plant", "full-precision floats at uneven times", "1d", plant),
        Set("telegraf", "two-decimal floats, counters, flags", "1d", telegraf),
        Set("logs", "text lines, integers, floats", "7d", logs),
        Set("fleet", "20 KB shards", "1h", fleet),
    )
}


@dataclass(frozen=True, slots=True)
class Filled:
    """A set as the server keeps it."""

    shards: int
    size_bytes: int
    """Of its TSM files."""


def fill(server: Influxd, wanted: Set, scale: float) -> Filled:
    """Write a set and wait until all of it is in TSM files."""
    server.create_database(wanted.name, with_=f"SHARD DURATION {wanted.shard_duration}")
    stream: Iterable[str] = iter(wanted.lines(scale))
    while batch := list(itertools.islice(stream, BATCH)):
        server.write(wanted.name, batch)
    files = server.flush(wanted.name)
    return Filled(
        shards=len({path.parent for path in files}),
        size_bytes=sum(path.stat().st_size for path in files),
    )
