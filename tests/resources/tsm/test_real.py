"""TSM files of the installed influxd, read behind its back, against what it answers itself."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from resources.tsm.check import check_tsm
from resources.tsm.layout import split_key
from resources.tsm.merge import ContentDigest, content_digest
from resources.tsm.source import BytesSource
from resources.tsm.tombstone import parse_tombstones
from tests.influxd import Influxd, wait_until
from tests.resources.tsm.answers import answered, as_written, assert_whole, kept, shard
from tests.resources.tsm.points import (
    DELETIONS,
    FIXTURES,
    T0,
    Name,
    Points,
    S,
    deletable,
    every,
    everything,
    far_apart,
    left_over,
    lines,
    name,
    small,
)

pytestmark = pytest.mark.wire


@pytest.mark.parametrize("points", [small, everything, far_apart])
def test_the_fixtures_are_what_the_server_writes(
    influxd: Influxd, points: Callable[[], dict[Name, Points]]
) -> None:
    db = f"tsm_{points.__name__}"
    influxd.create_database(db, with_="DURATION INF SHARD DURATION 52000d")
    influxd.write(db, lines(points()))
    [path] = influxd.flush(db)
    if influxd.version.startswith("1.6.7"):
        assert path.read_bytes() == (FIXTURES / f"{points.__name__}.tsm").read_bytes()
    assert answered(influxd, db) == kept([path]) == as_written(points())
    assert_whole([path])


@pytest.mark.parametrize("index_version", ["inmem", "tsi1"])
def test_pending_deletions_are_seen_as_the_server_sees_them(
    influxd_factory: Callable[..., Influxd], index_version: str
) -> None:
    server = influxd_factory(index_version=index_version)
    server.create_database("db")
    server.write("db", lines(deletable()))
    [path] = server.flush("db")
    for deletion in DELETIONS:
        server.query(deletion, db="db")
    server.kill()  # before a compaction can carry the deletions out
    assert server.tsm_files("db") == [path]
    [tombstones] = server.tombstone_files("db")
    fixture = parse_tombstones((FIXTURES / "deleted.tombstone").read_bytes())
    assert sorted(parse_tombstones(tombstones.read_bytes())) == sorted(fixture)
    found = kept([path])
    digest = content_digest(shard([path]))
    server.start()
    assert found == answered(server, "db") == as_written(left_over())

    wait_until(lambda: not server.tombstone_files("db"), within_s=30, what="a compaction")
    server.stop()
    assert content_digest(shard(server.tsm_files("db"))) == digest
    assert_whole(server.tsm_files("db"))


def test_files_that_overlap_deletions_and_rewrites_merge_as_the_server_merges(
    influxd_factory: Callable[..., Influxd],
) -> None:
    server = influxd_factory()
    server.create_database("db")
    dice = Random(7)
    for generation in range(4):
        for k in "abc":
            times = dice.sample(range(400), 150)
            fields = [f"f={generation + time / 8},i={time}i" for time in times]
            if generation % 2:
                fields = [f'{field},s="g{generation} {k}"' for field in fields]
            heads = [f"d,k={k} {field}" for field in fields]
            points = zip(heads, times, strict=True)
            server.write("db", [f"{head} {T0 + time * S}" for head, time in points])
        server.flush("db")
        low = T0 + dice.randrange(300) * S
        server.query(
            f"DELETE FROM d WHERE k='a' AND time >= {low} AND time < {low + 60 * S}", db="db"
        )
        if generation == 1:
            server.query("DROP SERIES FROM d WHERE k='b'", db="db")
    server.kill()
    paths = server.tsm_files("db")
    assert len(paths) > 1, "nothing to merge"
    found, digest = kept(paths), content_digest(shard(paths))
    server.configure({"data": {"compact-full-write-cold-duration": "1s"}})
    server.start()
    assert found == answered(server, "db")

    def one_file_is_left() -> bool:
        return len(server.tsm_files("db")) == 1 and not server.tombstone_files("db")

    wait_until(one_file_is_left, within_s=60, what="a full compaction")
    server.stop()
    assert content_digest(shard(server.tsm_files("db"))) == digest
    assert_whole(server.tsm_files("db"))


def test_large_files_of_all_kinds_of_series_are_counted_exactly(influxd: Influxd) -> None:
    dice = Random(3)
    points = {
        name("logs", "message"): every(
            S, [dice.randbytes(600).hex() + " 日本" for _ in range(1000)]
        ),
        name("noise", "f"): [
            (T0 + i * S + dice.randrange(S), dice.gauss(0, 1e6)) for i in range(20_000)
        ],
        **{
            name("many", "v", host=f"host-{i:05}"): every(60 * S, [i, i * 2, -i])
            for i in range(5000)
        },
    }
    influxd.create_database("tsm_large")
    influxd.write("tsm_large", lines(points))
    paths = influxd.flush("tsm_large")
    facts = [check_tsm(BytesSource(path.read_bytes())) for path in paths]
    assert sum(fact.points or 0 for fact in facts) == sum(map(len, points.values())) == 36_000
    assert kept(paths) == answered(influxd, "tsm_large") == as_written(points)
    digest = content_digest(shard(paths))
    times = [time for series in points.values() for time, _ in series]
    assert digest == ContentDigest(
        digest.sha256,
        keys=5002,
        series=5002,
        points=36_000,
        min_time_ns=min(times),
        max_time_ns=max(times),
    )
    assert_whole(paths)


def test_the_keys_of_a_file_are_the_series_and_fields_the_server_shows(influxd: Influxd) -> None:
    influxd.create_database("tsm_keys")
    influxd.write("tsm_keys", lines(everything()))
    [path] = influxd.flush("tsm_keys")
    shown = {row[0] for row in influxd.rows("SHOW SERIES", db="tsm_keys")}
    series = {split_key(key)[0].decode() for key in kept([path])}
    assert series == shown
    assert check_tsm(BytesSource(path.read_bytes())).series == len(shown)
