"""A bit that flips in a key of a TSM index on its way is never kept: what is new is read twice."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from resources.clients.snapshotter import SnapshotterClient
from resources.engine.options import Retry
from resources.repository.repository import BackupRepository
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource
from tests.influxd import Influxd
from tests.proxy import Flip, Proxy, shard_backups
from tests.wire.commands import at, restore, shardkeeper
from tests.wire.points import Points, points
from tests.wire.raw import raw_shard

pytestmark = pytest.mark.wire

T0 = 1_600_000_000_000_000_000
DB = "flipped keys"


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Retry, "pause_s", lambda self, attempt: 0.001)


@pytest.fixture(scope="module")
def written(source: Influxd) -> Iterator[tuple[Points, list[int]]]:
    """The points of a database, and where in its shard's archive keys stand."""
    dice = Random(4)
    source.create_database(DB)
    stream = b""
    for _ in range(2):  # two files
        hosts = [dice.randbytes(6).hex() for _ in range(40)]
        source.write(DB, [f"cpu,host={h} v={dice.random()} {T0 + n}" for n, h in enumerate(hosts)])
        stream = raw_shard(SnapshotterClient(source.bind_addr), shard_of(source))
    yield points(source, DB), keys_in(stream)
    source.drop_database(DB)


def shard_of(server: Influxd) -> int:
    [result] = server.query("SHOW SHARDS")
    [series] = [s for s in result["series"] if s["name"] == DB]
    return max(row[0] for row in series["values"])


def keys_in(stream: bytes) -> list[int]:
    places: list[int] = []
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        members = archive.getmembers()
    for member in members:
        data = stream[member.offset_data : member.offset_data + member.size]
        tsm = TSMFile(BytesSource(data))
        for key in tsm.index():
            at = member.offset_data + data.index(key.key, tsm.index_start)
            places += range(at, at + len(key.key))
    return places


def details_in(directory: Path) -> bool:
    current = BackupRepository.open(directory).current()
    [archive] = [a for a in current.archives.values() if a.entry.database == DB]
    assert archive.entry.details is not None
    return archive.entry.details.read_twice


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_flipped_key_is_read_anew(
    which: str,
    source: Influxd,
    target: Influxd,
    written: tuple[Points, list[int]],
    fresh: Callable[[], str],
    tmp_path: Path,
) -> None:
    expected, places = written
    dice, directory = Random(which), tmp_path
    for n in range(6):
        flip = Flip(dice.choice(places), mask=1 << dice.randrange(6))
        directory = tmp_path / f"{n}"
        directory.mkdir(mode=0o700)
        with Proxy(source.bind_addr) as proxy:
            if which == "second":
                proxy.break_next(Flip(10**9))
            proxy.break_next(flip)
            done = shardkeeper(*at(source, tcp=proxy.address), "backup", "-db", DB, str(directory))
        assert done.code == 0, done
        assert "attempt 2" in done.err
        assert details_in(directory)
    name = fresh()
    restore(target, directory, "-db", DB, "-newdb", name)
    assert points(target, name) == expected


def test_what_the_earlier_archive_has_is_not_read_again(
    source: Influxd, written: tuple[Points, list[int]], tmp_path: Path
) -> None:
    def run() -> int:
        with Proxy(source.bind_addr) as proxy:
            done = shardkeeper(*at(source, tcp=proxy.address), "backup", "-db", DB, str(tmp_path))
            assert done.code == 0, done
            return sum(shard_backups(head) for head in proxy.heads)

    assert run() == 2
    assert details_in(tmp_path)
    source.write(DB, [f"cpu,host=later v=1 {T0}"])
    assert run() >= 2
    assert details_in(tmp_path)


def test_never_reads_once_and_says_so(
    source: Influxd, written: tuple[Points, list[int]], tmp_path: Path
) -> None:
    with Proxy(source.bind_addr) as proxy:
        words = ("backup", "-read-twice", "0", "-db", DB, str(tmp_path))
        assert shardkeeper(*at(source, tcp=proxy.address), *words).code == 0
        assert sum(shard_backups(head) for head in proxy.heads) == 1
    assert not details_in(tmp_path)
