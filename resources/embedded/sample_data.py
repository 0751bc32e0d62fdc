"""Sample data of four houses and their machines: past data, and batches of new data.

    with EmbeddedCluster(directory) as cluster:
        fill(cluster, now_ns=time.time_ns())
        write_batch(cluster, 0, now_ns=time.time_ns())

Two databases in shards of weeks and of days, so that new points change few shards out of many.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, cast

from resources.embedded.cluster import EmbeddedCluster

HOUSES = ("north", "east", "south", "west")
PLACES = ("kitchen", "bathroom", "attic")
MACHINES = ("boiler", "pump", "solar")
MINUTE_NS = 60 * 10**9
DAY_NS = 24 * 60 * MINUTE_NS
STEP_NS = 30 * MINUTE_NS
WEEKS = 5
DAYS = 8
LATE_EVERY = 4
"""One of this many batches has readings that are days late."""


def fill(cluster: EmbeddedCluster, now_ns: int) -> None:
    """Create the databases `house` and `machines` with past data, if they are missing."""
    if "house" not in _databases(cluster):
        cluster.query("CREATE DATABASE house WITH REPLICATION 3")
        cluster.write("house", "\n".join(climate(now_ns - WEEKS * 7 * DAY_NS, now_ns)))
    if "machines" not in _databases(cluster):
        cluster.query(
            "CREATE DATABASE machines WITH DURATION 30d REPLICATION 3 SHARD DURATION 1d NAME month"
        )
        cluster.write("machines", "\n".join(power(now_ns - DAYS * DAY_NS, now_ns)))


def write_batch(cluster: EmbeddedCluster, number: int, now_ns: int) -> None:
    """Write a batch: the last minutes, and sometimes a day that was missed."""
    if number % LATE_EVERY == LATE_EVERY - 1:
        day = 2 + number // LATE_EVERY % (DAYS - 2)
        cluster.write("machines", "\n".join(power(now_ns - day * DAY_NS, now_ns, count=6)))
    else:
        cluster.write("house", "\n".join(climate(now_ns - MINUTE_NS, now_ns, count=1)))


def climate(start_ns: int, end_ns: int, count: int | None = None) -> Iterator[str]:
    """Temperature and humidity of twelve rooms every half hour, as line protocol."""
    for at in _times(start_ns, end_ns, count):
        for n, (house, room) in enumerate(product(HOUSES, PLACES)):
            swing = math.sin(at / DAY_NS * 2 * math.pi + n)
            yield (
                f"climate,house={house},room={room} temperature={18 + n % 5 + 3 * swing:.2f},"
                f"humidity={45 + n - 8 * swing:.1f} {at}"
            )


def power(start_ns: int, end_ns: int, count: int | None = None) -> Iterator[str]:
    """The power of three machines in each house every half hour, as line protocol."""
    for at in _times(start_ns, end_ns, count):
        for n, (house, machine) in enumerate(product(HOUSES, MACHINES)):
            watts = 200 + 40 * n + 150 * math.sin(at / DAY_NS * 2 * math.pi - n)
            yield f"power,house={house},machine={machine} watts={watts:.1f} {at}"


def _times(start_ns: int, end_ns: int, count: int | None) -> range:
    until = end_ns if count is None else min(end_ns, start_ns + count * STEP_NS)
    return range(start_ns, until, STEP_NS)


def _databases(cluster: EmbeddedCluster) -> set[str]:
    results = cast("list[dict[str, Any]]", cluster.query("SHOW DATABASES")["results"])
    return {name for [name] in results[0]["series"][0].get("values", [])}
