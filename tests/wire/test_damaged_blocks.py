"""What is damaged at a server is saved as it is and marked, and costs nothing but itself."""

from __future__ import annotations

import json
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resources.repository.repository import BackupRepository
from resources.runtime.failpoints import VARIABLE
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource
from tests.conftest import need_influxd
from tests.influxd import Influxd
from tests.processes import ForkServer
from tests.wire.commands import (
    Done,
    at,
    backup,
    influxd_restore,
    restore,
    shardkeeper,
)
from tests.wire.points import Points, count, points, wait_for_points

pytestmark = pytest.mark.wire

T0 = 1_600_000_000_000_000_000
DB = "m"
SERIES = ("aaa", "mmm", "zzz")
Damage = Callable[[bytearray], None]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Influxd]:
    """A server with three series of 2,500 points each in one file."""
    need_influxd()
    with Influxd(tmp_path / "server") as server:
        server.create_database(DB)
        for series in SERIES:
            lines = [f"{series} v={i}.{i * 7919 % 1000:03d} {T0 + i}" for i in range(2500)]
            server.write(DB, lines)
        server.flush(DB)
        yield server


def file_of(server: Influxd) -> Path:
    [path] = (server.data_dir / DB).rglob("*.tsm")
    return path


def damage(server: Influxd, what: Damage) -> None:
    """Change bytes of the file below the running server, as a failing disk does."""
    path = file_of(server)
    data = bytearray(path.read_bytes())
    what(data)
    with path.open("r+b") as file:
        file.write(data)


def block(key: int, n: int) -> Damage:
    """Flip a byte of a value in the n-th block of a key."""

    def flip(data: bytearray) -> None:
        entry = list(TSMFile(BytesSource(bytes(data))).index())[key].entries[n]
        data[entry.offset + entry.size - 9] ^= 0xFF

    return flip


def entry(data: bytearray) -> None:
    """Flip a bit in the offset of the second entry of the second key."""
    tsm = TSMFile(BytesSource(bytes(data)))
    [_, second, _] = tsm.index()
    at_ = data.index(struct.pack(">QI", second.entries[1].offset, second.entries[1].size))
    data[at_ + 5] ^= 0x20


def key_length(data: bytearray) -> None:
    """Make the second key of the index unreadable."""
    data[data.index(b"mmm#!~#v") - 2] ^= 0x7F


def several(data: bytearray) -> None:
    for one in (block(0, 0), block(2, 2)):
        one(data)


def newest(directory: Path) -> BackupRepository:
    return BackupRepository.open(directory)


def without(whole: Points, lost: dict[str, range]) -> Points:
    """The points less those of some series in some range."""
    found = dict(whole)
    for (policy, name, *tags), rows in whole.items():
        if name in lost and policy != "types":
            left = [row for row in rows if row[0] - T0 not in lost[name]]
            found[policy, name, *tags] = left  # type: ignore[index]
    return found


CASES: dict[str, tuple[Damage, dict[str, range]]] = {
    "the first block": (block(0, 0), {"aaa": range(1000)}),
    "a block amid others": (block(1, 1), {"mmm": range(1000, 2000)}),
    "the last block": (block(2, 2), {"zzz": range(2000, 2500)}),
    "two blocks": (several, {"aaa": range(1000), "zzz": range(2000, 2500)}),
    "an entry of the index": (entry, {}),
    "a key of the index": (key_length, {"mmm": range(2500)}),
}


@pytest.mark.parametrize("case", CASES)
def test_all_but_the_damage_is_saved_and_comes_back(
    case: str, server: Influxd, target: Influxd, backups: Path, fresh: Callable[[], str]
) -> None:
    whole = points(server, DB)
    what, lost = CASES[case]
    damage(server, what)
    raw = file_of(server).read_bytes()

    done = shardkeeper("backup", *at(server), "-db", DB, backups)
    assert done.code == 3, done
    assert "damaged" in done.err
    for name in lost:
        assert name in done.err or case == "a key of the index"
    again = shardkeeper("backup", *at(server), "-db", DB, backups)
    assert again.code == 3, again
    assert "damaged" in again.err
    assert len(list(backups.glob("*.tar.gz"))) == 1  # what is unchanged is not copied again
    [archive] = newest(backups).current().archives.values()
    assert archive.entry.details is not None
    [file] = archive.entry.details.damaged
    assert file.size_bytes == len(raw)
    assert raw in _unzipped(backups / archive.entry.file_name)

    listed = shardkeeper("restore", "-list", backups)
    assert listed.code == 0
    assert "damaged at its source" in listed.out
    verified = shardkeeper("verify", backups)
    assert verified.code == 3, verified
    assert "0 problems" in verified.out

    name = fresh()
    back = shardkeeper("restore", *at(target), "-db", DB, "-newdb", name, backups)
    assert back.code == 3, back
    assert "left out" in back.err
    expected = without(whole, lost)
    got = points(target, name)
    assert count(got) == count(expected)
    assert got == {key: rows for key, rows in expected.items() if rows and _is_left(key, lost)}


@pytest.mark.parametrize("where", ["restore.after-metadata", "restore.uploaded"])
def test_a_restore_of_damage_that_was_killed_goes_on_and_says_what_is_left_out(
    where: str, server: Influxd, target: Influxd, backups: Path, fresh: Callable[[], str]
) -> None:
    whole, name = points(server, DB), fresh()
    what, lost = CASES["two blocks"]
    damage(server, what)
    assert shardkeeper("backup", *at(server), "-db", DB, backups).code == 3
    flags = ("restore", *at(target), "-db", DB, "-newdb", name, backups)
    with ForkServer() as fork_server:
        assert fork_server.start(*flags, env={VARIABLE: where}).wait().code == -signal.SIGKILL
    back = shardkeeper(*flags)
    assert back.code == 3, back
    assert "this run continues it" in back.err
    assert "left out" in back.err
    assert points(target, name) == without(whole, lost)


def _is_left(key: tuple[object, ...], lost: dict[str, range]) -> bool:
    return not (key[1] in lost and len(lost[str(key[1])]) == 2500)


def _unzipped(path: Path) -> bytes:
    import gzip

    return gzip.decompress(path.read_bytes())


def test_who_refuses_damage_keeps_the_earlier_archive(server: Influxd, backups: Path) -> None:
    backup(server, backups, "-db", DB)
    damage(server, block(0, 1))
    done = shardkeeper("backup", *at(server), "-full", "-damaged", "refuse", "-db", DB, backups)
    assert done.code in (3, 13), done
    assert "-damaged keep" in done.err
    [archive] = newest(backups).current().archives.values()
    assert archive.entry.details is not None
    assert not archive.entry.details.damaged


def test_an_earlier_backup_that_has_the_file_whole_is_named(
    server: Influxd, target: Influxd, backups: Path, fresh: Callable[[], str]
) -> None:
    whole = points(server, DB)
    backup(server, backups, "-db", DB)
    [first] = backups.glob("*Z.manifest")
    damage(server, block(0, 1))
    server.write(DB, [f"new v=1 {T0}"])
    server.flush(DB)
    done = shardkeeper("backup", *at(server), "-db", DB, backups)
    assert done.code == 3, done
    assert f"the backup {first.stem} has it whole" in done.err
    name = fresh()
    restore(target, backups, "-db", DB, "-newdb", name, "-as-of", first.stem)
    assert points(target, name) == whole


def test_the_original_restores_what_was_saved(
    server: Influxd, target: Influxd, backups: Path, fresh: Callable[[], str]
) -> None:
    damage(server, block(0, 1))
    assert shardkeeper("backup", *at(server), "-db", DB, backups).code == 3
    name = fresh()
    influxd_restore(target, backups, "-db", DB, "-newdb", name)
    wait_for_points(target, name, points(server, DB))


def test_damage_is_one_json_object(server: Influxd, backups: Path) -> None:
    damage(server, block(0, 1))
    assert shardkeeper("backup", *at(server), "-db", DB, backups).code == 3
    done: Done = shardkeeper("verify", "-json", backups)
    output = json.loads(done.out)
    assert output["clean"] is True
    [one] = output["damaged_at_source"]
    assert one["newest"] is True
    assert "'aaa#!~#v'" in one["what"]
