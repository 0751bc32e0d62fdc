"""Files that we write, given to a real influxd: it answers every point, and can rewrite them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random

import numpy as np
import pytest

from resources.clients.snapshotter import SnapshotterClient
from resources.protocol.tar import END_MARKER, encode_header, padding
from resources.tsm.check import check_tsm
from resources.tsm.deletions import Deletions
from resources.tsm.keys import tsm_key
from resources.tsm.layout import BlockType
from resources.tsm.merge import content_digest, series_points
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource
from resources.tsm.writer import TSMWriter
from tests.influxd import Influxd, wait_until
from tests.resources.tsm.answers import answered, as_written, assert_whole, kept, shard
from tests.resources.tsm.points import (
    T0,
    Name,
    Points,
    S,
    everything,
    far_apart,
    name,
)

pytestmark = pytest.mark.wire

LEAST, MAX_LENGTH = -(2**63), 2**63 - 1
DTYPES = {float: BlockType.FLOAT, int: BlockType.INTEGER, bool: BlockType.BOOLEAN}


def written(points: Mapping[Name, Points], *, unsigned: frozenset[Name] = frozenset()) -> bytes:
    """A TSM file of ours with these points."""
    out = bytearray()
    writer = TSMWriter(out.extend)
    for of in sorted(points, key=lambda of: of.key):
        at = np.array([time for time, _ in points[of]], dtype=np.int64)
        values = [value for _, value in points[of]]
        key = tsm_key(of.measurement, dict(of.tags), of.field)
        if of in unsigned:
            writer.write(key, BlockType.UNSIGNED, at, np.array(values, dtype=np.uint64))
        elif isinstance(values[0], str):
            texts = [value.encode() for value in values if isinstance(value, str)]
            writer.write(key, BlockType.STRING, at, texts)
        else:
            writer.write(key, DTYPES[type(values[0])], at, np.array(values))
    writer.finish()
    assert check_tsm(BytesSource(out)).points == sum(map(len, points.values()))
    return bytes(out)


def uploaded(server: Influxd, db: str, *files: bytes) -> list[Path]:
    """Put files into the one, empty shard of a new database; return where they are."""
    # Empty, because a server with tsi1 learns fields only when it knows none of the shard.
    pattern = f"{db} pattern"
    server.create_database(pattern, with_="DURATION INF SHARD DURATION 52000d")
    server.write(pattern, f"m v=1 {T0}")
    client = SnapshotterClient(server.bind_addr)
    [shard_id] = client.import_metastore(pattern, db, "", "", client.metastore()).values()
    server.drop_database(pattern)
    with client.upload(shard_id) as upload:
        for generation, data in enumerate(files, 1):
            file = f"{db}/autogen/{shard_id}/{generation:09}-000000001.tsm"
            upload.sendall(encode_header(file, len(data), 0) + data + padding(len(data)))
        upload.sendall(END_MARKER)
        upload.finish()
    paths = server.tsm_files(db)
    assert [path.read_bytes() for path in paths] == list(files)
    return paths


def extremes() -> dict[Name, Points]:
    """What line protocol could not bring, or not in one shard."""
    dice = Random(5)
    times = sorted(dice.sample(range(10**17), 3000))
    return {
        name("unsigned", "even"): [(T0 + i * S, i * 3) for i in range(2500)],
        name("unsigned", "ends"): [(T0, 0), (T0 + 1, 2**63), (T0 + 2, 2**64 - 1), (T0 + 9, 1)],
        name("unsigned", "any"): [(T0 + time, dice.randrange(2**64)) for time in times],
        name("signed", "any"): [
            (T0 + time, dice.randrange(LEAST, MAX_LENGTH + 1)) for time in times
        ],
        name("bits", "f"): [(T0 + time, dice.choice([0.1, -7e300, 2e-308])) for time in times],
        name("bits", "b"): [(T0 + time, dice.random() < 0.5) for time in times],
        name("bits", "s"): [(T0 + time, "é" * dice.randrange(300)) for time in times],
        **far_apart(),
    }


@pytest.mark.parametrize("index_version", ["inmem", "tsi1"])
def test_every_point_of_ours_is_answered(
    influxd_factory: Callable[..., Influxd], index_version: str
) -> None:
    server = influxd_factory(index_version=index_version)
    points = {**everything(), **extremes()}
    unsigned = frozenset(of for of in points if of.measurement == "unsigned")
    paths = uploaded(server, "db", written(points, unsigned=unsigned))
    assert answered(server, "db") == kept(paths) == as_written(points)
    server.restart()
    assert answered(server, "db") == as_written(points)
    assert_whole(paths)


def overlapping() -> Iterator[bytes]:
    """Three files in which every type has points of its own and others' points anew."""
    dice = Random(11)
    kinds: dict[str, Callable[[int], float | int | bool | str]] = {
        "f": lambda i: dice.gauss(0, 10.0**i),
        "i": lambda i: dice.randrange(-(10**i), 10**i),
        "b": lambda i: dice.random() < 0.5,
        "s": lambda i: f"file {i} {dice.random()}",
        "u": lambda i: dice.randrange(2**64 >> i),
    }
    for i in range(1, 4):
        points = {
            name("o", field, k=k): [
                (T0 + at * S, value(i)) for at in sorted(dice.sample(range(5000), 1800))
            ]
            for field, value in kinds.items()
            for k in "ab"
        }
        yield written(points, unsigned=frozenset(of for of in points if of.field == "u"))


def test_a_server_merges_files_of_ours_into_one_with_the_same_points(
    influxd_factory: Callable[..., Influxd],
) -> None:
    server = influxd_factory(config={"data": {"compact-full-write-cold-duration": "24h"}})
    version = server.version
    paths = uploaded(server, "db", *overlapping())
    digest = content_digest(shard(paths))
    expected = kept(paths)
    merged = bytearray()
    writer = TSMWriter(merged.extend)
    for series in series_points(shard(paths)):
        writer.write(series.key, series.type, series.times, series.values)
    writer.finish()
    assert content_digest([(TSMFile(BytesSource(merged)), Deletions())]) == digest
    assert answered(server, "db") == expected

    server.stop()
    server.configure({"data": {"compact-full-write-cold-duration": "1s"}})
    server.start()
    wait_until(lambda: len(server.tsm_files("db")) == 1, within_s=60, what="a full compaction")
    server.stop()
    [path] = server.tsm_files("db")
    assert content_digest(shard([path])) == digest
    if version.startswith("1.6.7"):
        assert path.read_bytes() == merged
