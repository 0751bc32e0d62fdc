"""The network between us and a real server has bad days; no byte of that is ever kept."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resources.clients.snapshotter import SnapshotterClient
from resources.engine.options import Retry
from tests.faults.cuts import places
from tests.influxd import Influxd
from tests.proxy import (
    Act,
    Chosen,
    Cut,
    Fault,
    Flip,
    Proxy,
    Reset,
    Stall,
    imports,
    shard_backups,
    uploads,
)
from tests.wire.commands import Done, at, backup, restore, shardkeeper, verify
from tests.wire.points import Points, databases, points
from tests.wire.raw import raw_shard

pytestmark = pytest.mark.wire

T0 = 1_600_000_000_000_000_000
WEEK = 604_800_000_000_000
UPLOAD_HEAD = 10
"""Multiplexer byte, type and shard ID come before the archive."""

LOST_ANSWERS = (
    Cut(0), Cut(8), Cut(16), Cut(31), Reset(0), Reset(16), Cut(0, "to server"),
    Cut(100, "to server"), Reset(40, "to server"),
)  # fmt: skip

Fresh = Callable[[], str]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed attempts follow each other at once; how often we try stays as it is."""
    monkeypatch.setattr(Retry, "pause_s", lambda self, attempt: 0.001)


@pytest.fixture(scope="module")
def three_files(source: Influxd) -> Iterator[tuple[str, Points, bytes]]:
    """A shard of three TSM files: its database, its points, and its archive as it should be."""
    db = "three files"
    source.create_database(db)
    stream = b""
    for i in range(3):
        source.write(db, [f'm,t={j} v={i},s="{"x" * j}" {T0 + i * 1000 + j}' for j in range(60)])
        stream = raw_shard(SnapshotterClient(source.bind_addr), shard_of(source, db))
    assert len(source.tsm_files(db)) == 3
    yield db, points(source, db), stream
    source.drop_database(db)


def shard_of(server: Influxd, db: str) -> int:
    [result] = server.query("SHOW SHARDS")
    [series] = [s for s in result["series"] if s["name"] == db]
    return max(row[0] for row in series["values"])


def of_shard(shard: int) -> Chosen:
    return lambda head: shard_backups(head) and f'"ShardID":{shard},'.encode() in head


# --- on the way here ----------------------------------------------------------------------


@pytest.mark.fault(1, 2, 3, 4, 10, 11)
@pytest.mark.parametrize("kind", [Cut, Reset, Flip])
def test_what_arrives_damaged_is_pulled_again_from_an_empty_file(
    source: Influxd,
    tmp_path: Path,
    three_files: tuple[str, Points, bytes],
    kind: type[Cut] | type[Reset] | type[Flip],
) -> None:
    db, _, clean = three_files
    with Proxy(source.bind_addr) as proxy:
        for i, (where, offset) in enumerate(places(clean).items()):
            directory = tmp_path / str(i)
            directory.mkdir()
            proxy.break_next(kind(offset))
            done = backup(source, directory, "-db", db, tcp=proxy.address)
            assert proxy.pending == 0, where
            assert "attempt 2 starts" in done.err, where
            [archive] = directory.glob("*.tar.gz")
            assert gzip.decompress(archive.read_bytes()) == clean, where
            [manifest] = directory.glob("*.manifest")
            [entry] = json.loads(manifest.read_text())["files"]
            assert entry["size"] == len(clean)
            assert entry["shardkeeper"]["storedSize"] == archive.stat().st_size


@pytest.mark.fault(1, 2, 4, 5)
def test_many_faults_in_a_row_end_in_one_clean_archive(
    source: Influxd,
    target: Influxd,
    backups: Path,
    three_files: tuple[str, Points, bytes],
    fresh: Fresh,
) -> None:
    db, expected, clean = three_files
    with Proxy(source.bind_addr) as proxy:
        proxy.break_next(Cut(0), Reset(700), Cut(1024), Flip(600), Cut(len(clean) - 1024))
        done = backup(source, backups, "-db", db, tcp=proxy.address)
        # What was flipped is read a second time at once, and that reading is the one that is cut.
        assert "attempt 5 starts" in done.err
        assert proxy.pending == 0
    verify(backups)
    name = fresh()
    restore(target, backups, "-db", db, "-newdb", name)
    assert points(target, name) == expected


@pytest.mark.fault(7)
def test_a_server_that_falls_silent_is_asked_again(
    source: Influxd, backups: Path, three_files: tuple[str, Points, bytes]
) -> None:
    db, _, clean = three_files
    with Proxy(source.bind_addr) as proxy:
        proxy.break_next(Stall(2000))
        done = backup(source, backups, "-db", db, "-timeout", "500ms", tcp=proxy.address)
        assert "no answer while reading shard" in done.err
    [archive] = backups.glob("*.tar.gz")
    assert gzip.decompress(archive.read_bytes()) == clean


@pytest.mark.fault(10, 75)
def test_a_shard_that_always_breaks_fails_alone_and_the_next_run_heals(
    source: Influxd, target: Influxd, backups: Path, fresh: Fresh
) -> None:
    db = fresh()
    source.create_database(db)
    source.write(db, [f"m v={i} {T0 + i * WEEK}" for i in range(3)])
    [bad] = [shard_of(source, db)]
    expected = points(source, db)
    with Proxy(source.bind_addr) as proxy:
        proxy.break_all(Flip(600), of_shard(bad))
        done = shardkeeper("backup", *at(source, tcp=proxy.address), "-db", db, backups)
        assert done.code == 3
        assert f"1 of 3 shards was not saved; the first is shard {bad}" in done.err
        assert "run the backup again" in done.err
        assert len(proxy.heads) >= 6
        [manifest] = backups.glob("*.manifest")
        saved = json.loads(manifest.read_text())
        assert [f["shardID"] for f in saved["shardkeeper"]["failed"]] == [bad]
        assert len(saved["files"]) == 2
        verify(backups)
        refused = shardkeeper("restore", *at(target), "-db", db, "-newdb", "never", backups)
        assert refused.code == 13
        assert f"shard {bad} could not be saved" in refused.err
        proxy.heal()
        done = backup(source, backups, "-db", db, tcp=proxy.address)
        assert [line for line in done.out.splitlines() if f"shard {bad}..." in line]
        assert done.out.count("Backing up node") == 1
    name = fresh()
    restore(target, backups, "-db", db, "-newdb", name)
    assert points(target, name) == expected


def test_a_restore_says_which_shards_are_older_than_the_rest(
    source: Influxd, target: Influxd, backups: Path, fresh: Fresh
) -> None:
    db = fresh()
    source.create_database(db)
    source.write(db, [f"m v={i} {T0 + i * WEEK}" for i in range(2)])
    bad = shard_of(source, db)
    backup(source, backups, "-db", db)
    before = points(source, db)
    source.write(db, [f"m v=7 {T0 + i * WEEK + 1}" for i in range(2)])
    with Proxy(source.bind_addr) as proxy:
        proxy.break_all(Flip(600), of_shard(bad))
        assert shardkeeper("backup", *at(source, tcp=proxy.address), "-db", db, backups).code == 3
    name = fresh()
    done = restore(target, backups, "-db", db, "-newdb", name)
    assert f"shard {bad} comes from an earlier backup" in done.err
    rows = [*before["autogen", "m", ()]]
    rows.insert(1, (T0 + 1, {"v": 7}))
    assert points(target, name)["autogen", "m", ()] == rows


@pytest.mark.fault(18)
def test_a_server_that_restarts_in_the_middle_is_waited_for(
    influxd_factory: Callable[..., Influxd],
    target: Influxd,
    backups: Path,
    fresh: Fresh,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Retry, "pause_s", lambda self, attempt: 0.5)
    server = influxd_factory()
    server.create_database("db")
    server.write("db", [f"m v={i} {T0 + i * WEEK}" for i in range(4)])
    expected = points(server, "db")

    def power_cut() -> None:
        server.kill()
        server.start()

    with Proxy(server.bind_addr) as proxy:
        proxy.break_next(Act(0, power_cut, direction="to server"))
        done = backup(server, backups, tcp=proxy.address)
    assert "attempt 2 starts" in done.err
    verify(backups)
    name = fresh()
    restore(target, backups, "-db", "db", "-newdb", name)
    assert points(target, name) == expected


@pytest.mark.fault(18)
def test_a_server_that_dies_for_good_leaves_no_backup(
    influxd_factory: Callable[..., Influxd], backups: Path
) -> None:
    server = influxd_factory()
    server.create_database("db")
    server.write("db", f"m v=1 {T0}")
    with Proxy(server.bind_addr) as proxy:
        proxy.break_next(Act(0, server.kill, direction="to server"))
        done = shardkeeper("backup", *at(server, tcp=proxy.address), backups)
    assert done.code in (1, 3), done  # 3: it went while it wrote the shard out
    assert "shard 1" in done.err or "meta" in done.err, done
    # That reading the shard may have brought it down is remembered.
    left = {path.name.partition("-")[0] for path in backups.iterdir()}
    assert left <= {".shardkeeper.crashes"}


# --- on the way there ---------------------------------------------------------------------


@pytest.fixture
def saved(source: Influxd, backups: Path, three_files: tuple[str, Points, bytes]) -> Path:
    backup(source, backups, "-db", three_files[0])
    return backups


def restore_through(
    proxy: Proxy, target: Influxd, backups: Path, db: str, name: str, *flags: str
) -> Done:
    return shardkeeper(
        "restore", *at(target, tcp=proxy.address), "-db", db, "-newdb", name, *flags, backups
    )


@pytest.mark.fault(64, 65)
@pytest.mark.parametrize("kind", [Cut, Reset, Flip])
def test_an_upload_that_breaks_is_noticed_and_sent_again_alone(
    target: Influxd,
    saved: Path,
    three_files: tuple[str, Points, bytes],
    fresh: Fresh,
    kind: type[Cut] | type[Reset] | type[Flip],
) -> None:
    db, expected, clean = three_files
    keep = fresh()
    target.create_database(keep)
    target.write(keep, f"m v=1 {T0}")
    before = databases(target)
    name = fresh()
    # What is sent is named anew and as long: the new name is shorter, its number may be longer.
    for where, offset in places(clean).items():
        with Proxy(target.bind_addr) as proxy:
            proxy.break_next(kind(UPLOAD_HEAD + offset, direction="to server"), chosen=uploads)
            done = restore_through(proxy, target, saved, db, name)
            assert proxy.pending == 0, where
        assert done, (where, done)
        if "attempt 2 starts" not in done.err:
            # The server does not look at padding, and has everything before the end marker.
            assert "padding" in where or offset >= len(clean) - 1024, (where, done)
        assert points(target, name) == expected
        target.drop_database(name)
        assert databases(target) == before, (where, done)
    assert points(target, keep)["autogen", "m", ()] == [(T0, {"v": 1})]
    with Proxy(target.bind_addr) as proxy:
        assert restore_through(proxy, target, saved, db, name)
    assert points(target, name) == expected


@pytest.mark.fault(63)
@pytest.mark.parametrize("fault", LOST_ANSWERS, ids=str)
def test_an_import_whose_answer_is_lost_is_found_or_sent_again(
    target: Influxd,
    saved: Path,
    three_files: tuple[str, Points, bytes],
    fresh: Fresh,
    fault: Fault,
) -> None:
    (db, expected, _), before, name = three_files, databases(target), fresh()
    with Proxy(target.bind_addr) as proxy:
        proxy.break_next(fault, chosen=imports)
        done = restore_through(proxy, target, saved, db, name)
        assert proxy.pending == 0
    assert (done.code, points(target, name)) == (0, expected), done
    target.drop_database(name)
    assert databases(target) == before


@pytest.mark.fault(63)
@pytest.mark.parametrize("fault", [Flip(3), Flip(15), Flip(23)], ids=str)
def test_an_import_that_breaks_leaves_nothing_behind(
    target: Influxd,
    saved: Path,
    three_files: tuple[str, Points, bytes],
    fresh: Fresh,
    fault: Fault,
) -> None:
    """The server may have created the database before its answer got lost."""
    db, _, _ = three_files
    before = databases(target)
    with Proxy(target.bind_addr) as proxy:
        proxy.break_next(fault, chosen=imports)
        done = restore_through(proxy, target, saved, db, fresh())
        assert proxy.pending == 0
    assert done.code == 1, done
    assert "Restoring meta data... Error." in done.out
    assert databases(target) == before


@pytest.mark.fault(65)
def test_an_answer_that_names_the_wrong_shard_is_not_followed(
    target: Influxd, saved: Path, three_files: tuple[str, Points, bytes], fresh: Fresh
) -> None:
    db, _, _ = three_files
    before = databases(target)
    with Proxy(target.bind_addr) as proxy:
        proxy.break_next(Flip(31), chosen=imports)
        done = restore_through(proxy, target, saved, db, fresh())
        assert not [head for head in proxy.heads if uploads(head)]
    assert done.code == 1
    assert databases(target) == before


@pytest.mark.fault(64)
def test_a_target_that_dies_in_the_middle_is_named_with_what_is_left(
    influxd_factory: Callable[..., Influxd],
    saved: Path,
    three_files: tuple[str, Points, bytes],
) -> None:
    db, expected, _ = three_files
    server = influxd_factory()
    with Proxy(server.bind_addr) as proxy:
        proxy.break_next(Act(2000, server.kill, direction="to server"), chosen=uploads)
        done = restore_through(proxy, server, saved, db, "copy")
    assert done.code == 1, done
    assert "database 'copy' was created and is left there" in done.err
    assert 'DROP DATABASE "copy"' in done.err
    server.start()
    done = restore(server, saved, "-db", db, "-newdb", "copy")
    assert "this run continues it" in done.err
    assert points(server, "copy") == expected


@pytest.mark.fault(62, 74)
def test_a_database_that_appears_after_the_plan_is_not_ours_to_drop(
    target: Influxd, saved: Path, three_files: tuple[str, Points, bytes], fresh: Fresh
) -> None:
    db, _, _ = three_files
    name = fresh()

    def somebody_else() -> None:
        target.create_database(name)
        target.write(name, f"theirs v=1 {T0}")

    with Proxy(target.bind_addr) as proxy:
        # Requests for the metastore: the first is the plan's, the second that of the restore.
        proxy.break_next(Act(16, somebody_else), chosen=lambda head: head[:2] == b"\x03\x01")
        done = restore_through(proxy, target, saved, db, name)
        assert proxy.pending == 0
    assert done.code == 14, done
    assert "cannot restore into non-empty server" in done.err
    assert points(target, name)["autogen", "theirs", ()] == [(T0, {"v": 1})]


@pytest.mark.fault(62, 74)
def test_a_database_that_appears_right_before_the_import_is_not_ours_to_drop(
    target: Influxd, saved: Path, three_files: tuple[str, Points, bytes], fresh: Fresh
) -> None:
    db, _, _ = three_files
    name = fresh()

    def somebody_else() -> None:
        target.create_database(name)
        target.write(name, f"theirs v=1 {T0}")

    with Proxy(target.bind_addr) as proxy:
        proxy.break_next(Act(0, somebody_else, direction="to server"), chosen=imports)
        done = restore_through(proxy, target, saved, db, name)
    assert done.code == 1, done
    assert points(target, name)["autogen", "theirs", ()] == [(T0, {"v": 1})]
