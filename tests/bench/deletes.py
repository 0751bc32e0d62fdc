"""A shard with very many pending deletes on a real server: nothing may grow faster than they do.

A million deletes, a request each, would take hours. So the file that a server keeps of them is
written while the server is down, as the server would have written it.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from resources.tsm.tombstone import V4
from tests.bench.alone import BIN, Step
from tests.bench.cost import measured
from tests.influxd import Influxd

DATABASE = "plant"
FIRST_S = 1_600_000_000
POINTS = 1_000
IN_ONE_MEMBER = 1_000
"""Records that one DELETE of many series leaves."""


def deletes(sizes: Sequence[int], n: int, root: Path) -> Iterator[Step]:
    """What a backup, its verification and its restore cost, by the deletes of one file."""
    for size in sizes:
        place = root / f"deletes {size}"
        with Influxd(place / "influxd") as server:
            _pending(server, size)
            there = ("-host", server.bind_addr, "-http", server.http_addr)
            for i in range(n):
                (place / f"backups {i}").mkdir(mode=0o700)
            commands = {
                "backup": [(*there, "backup", place / f"backups {i}") for i in range(n)],
                "verify": [("verify", place / f"backups {i}") for i in range(n)],
                "restore": [
                    (*there, "restore", "-newdb", f"again{i}", "-db", DATABASE, place / "backups 0")
                    for i in range(n)
                ],
            }
            for what, words in commands.items():
                costs = [measured((BIN / "shardkeeper", *each)) for each in words]
                yield Step(what, size, sorted(costs, key=lambda cost: cost.wall_s)[n // 2], None)


def _pending(server: Influxd, size: int) -> None:
    """Have the server hold one shard of one file, with `n` deletes beside it."""
    server.create_database(DATABASE)
    server.write(DATABASE, "\n".join(f"kept v={i} {(FIRST_S + i) * 10**9}" for i in range(POINTS)))
    [tsm] = server.flush(DATABASE)
    server.stop()
    with tsm.with_suffix(".tombstone").open("wb") as file:
        file.write(V4)
        for first in range(0, size, IN_ONE_MEMBER):
            records = range(first, min(first + IN_ONE_MEMBER, size))
            file.write(gzip.compress(b"".join(map(_record, records)), 1, mtime=0))
    server.start()


def _record(i: int) -> bytes:
    key = b"measurement,host=server-%08d,region=eu#!~#usage_user" % i
    return struct.pack(">I", len(key)) + key + struct.pack(">qq", i, i + 5)
