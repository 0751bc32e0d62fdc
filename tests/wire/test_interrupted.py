"""Stopped or killed in the middle: what is visible is whole, and the next run converges."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.influxd import Influxd, InfluxdFailed, wait_until
from tests.proxy import Act, Proxy, Stall, imports, shard_backups, uploads
from tests.wire.commands import at, backup, restore, shardkeeper, verify
from tests.wire.points import Points, databases, points

pytestmark = pytest.mark.wire

T0 = 1_600_000_000_000_000_000
WEEK = 604_800_000_000_000
SOON_S = 5.0

Fresh = Callable[[], str]


@pytest.fixture(scope="module")
def life(source: Influxd) -> Iterator[tuple[str, Points]]:
    """A database of three shards."""
    db = "interrupted"
    source.create_database(db)
    source.write(db, [f"m v={i} {T0 + i % 3 * WEEK + i}" for i in range(60)])
    yield db, points(source, db)
    source.drop_database(db)


def started(*args: object) -> subprocess.Popen[str]:
    program = "from pipelines.ctl.main import shardkeeper; shardkeeper()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], how: signal.Signals) -> tuple[int, str, float]:
    """Signal a process; its status, what it said on standard error, and how long it took."""
    process.send_signal(how)
    began = time.monotonic()
    try:
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, err, time.monotonic() - began


def visible(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


WHERE = {
    "at the metastore": lambda head: head[:2] == b"\x03\x01",
    "while listing": lambda head: head[:2] == b"\x03\x03",
    "in a shard": lambda head: shard_backups(head) and b'"Since":"0001' in head,
    "at a question": lambda head: shard_backups(head) and b'"Since":"0001' not in head,
}


@pytest.mark.fault(27)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("where", WHERE)
def test_a_backup_that_is_asked_to_stop_stops_at_once_and_leaves_nothing(
    source: Influxd,
    backups: Path,
    life: tuple[str, Points],
    where: str,
    how: signal.Signals,
) -> None:
    db, _ = life
    if where == "at a question":
        backup(source, backups, "-db", db)
    before = visible(backups)
    with Proxy(source.bind_addr) as proxy:
        proxy.break_all(Stall(0 if where == "at the metastore" else 20), chosen=WHERE[where])
        process = started("backup", *at(source, tcp=proxy.address), "-db", db, backups)
        assert proxy.stalled.wait(timeout=20), process.communicate(timeout=20)
        code, err, seconds = ended(process, how)
    assert code == 130, err
    assert seconds < SOON_S
    assert "interrupted" in err
    assert "Traceback" not in err
    assert visible(backups) == before
    backup(source, backups, "-db", db)
    verify(backups)


@pytest.mark.parametrize("parallel", [1, 3])
def test_as_many_shards_are_on_their_way_as_parallel_says(
    source: Influxd, backups: Path, life: tuple[str, Points], parallel: int
) -> None:
    db, _ = life
    with Proxy(source.bind_addr) as proxy:
        proxy.break_all(Stall(0), chosen=WHERE["in a shard"])

        def under_way() -> int:
            return sum(map(WHERE["in a shard"], proxy.heads))

        process = started(
            "backup", "-parallel", parallel, *at(source, tcp=proxy.address), "-db", db, backups
        )
        wait_until(lambda: under_way() == parallel, within_s=20, what="the shards to be asked for")
        code, err, _ = ended(process, signal.SIGTERM)
        assert under_way() == parallel
    assert code == 130, err


@pytest.mark.fault(27)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("chosen", [imports, uploads, shard_backups], ids=lambda f: f.__name__)
def test_a_restore_that_is_asked_to_stop_takes_back_what_it_did(
    source: Influxd,
    target: Influxd,
    backups: Path,
    life: tuple[str, Points],
    fresh: Fresh,
    chosen: Callable[[bytes], bool],
    how: signal.Signals,
) -> None:
    db, expected = life
    backup(source, backups, "-db", db)
    before, name = databases(target), fresh()
    with Proxy(target.bind_addr) as proxy:
        direction = "to server" if chosen is uploads else "to client"
        proxy.break_all(Stall(20 if chosen is uploads else 0, direction=direction), chosen=chosen)
        process = started(
            "restore", *at(target, tcp=proxy.address), "-db", db, "-newdb", name, backups
        )
        assert proxy.stalled.wait(timeout=20), process.communicate(timeout=20)
        code, err, seconds = ended(process, how)
    assert code == 130, err
    assert seconds < SOON_S
    assert "Traceback" not in err
    assert databases(target) == before, err
    assert "rolled back: dropped" in err
    restore(target, backups, "-db", db, "-newdb", name)
    assert points(target, name) == expected


@pytest.mark.fault(27)
def test_an_import_that_is_under_way_when_a_restore_stops_is_waited_for_and_taken_back(
    source: Influxd, target: Influxd, backups: Path, life: tuple[str, Points], fresh: Fresh
) -> None:
    db, _ = life
    backup(source, backups, "-db", db)
    before, name = databases(target), fresh()
    held = threading.Event()
    with Proxy(target.bind_addr) as proxy:

        def hold() -> None:
            """Until the restore has looked whether there is anything to take back."""
            asked = len(proxy.heads)
            held.set()
            wait_until(
                lambda: any(head[:2] == b"\x03\x01" for head in proxy.heads[asked:]),
                within_s=20,
                what="the look",
            )

        proxy.break_all(Act(2, hold, direction="to server"), chosen=imports)
        process = started(
            "restore", *at(target, tcp=proxy.address), "-db", db, "-newdb", name, backups
        )
        assert held.wait(timeout=20), process.communicate(timeout=20)
        code, err, seconds = ended(process, signal.SIGTERM)
    assert code == 130, err
    assert seconds < SOON_S
    assert "rolled back: dropped" in err
    assert databases(target) == before, err


@pytest.mark.fault(27)
def test_an_import_of_which_nothing_is_seen_any_more_is_reported(
    source: Influxd, target: Influxd, backups: Path, life: tuple[str, Points], fresh: Fresh
) -> None:
    db, _ = life
    backup(source, backups, "-db", db)
    before, name = databases(target), fresh()
    with Proxy(target.bind_addr) as proxy:
        proxy.break_all(Stall(2, direction="to server"), chosen=imports)
        process = started(
            "restore", *at(target, tcp=proxy.address), "-db", db, "-newdb", name, backups
        )
        assert proxy.stalled.wait(timeout=20), process.communicate(timeout=20)
        code, err, seconds = ended(process, signal.SIGINT)
    assert code == 130, err
    assert seconds < SOON_S
    assert "was about to be created and is not there" in err
    assert databases(target) == before


@pytest.mark.fault(26, 51)
def test_a_killed_backup_is_swept_by_the_next(
    source: Influxd, target: Influxd, backups: Path, life: tuple[str, Points], fresh: Fresh
) -> None:
    db, expected = life
    backup(source, backups, "-db", db)
    whole = visible(backups)
    source.write(db, f"m extra=1 {T0}")
    source.query('DROP SERIES FROM "nothing"', db=db)
    with Proxy(source.bind_addr) as proxy:
        proxy.break_next(Stall(len(b"x") * 600), chosen=WHERE["in a shard"])
        process = started("backup", *at(source, tcp=proxy.address), "-full", "-db", db, backups)
        assert proxy.stalled.wait(timeout=20)
        left = visible(backups) - whole
        assert any(name.endswith(".meta") for name in left)
        assert ".shardkeeper.lock" in left
        code, _, _ = ended(process, signal.SIGKILL)
        assert code == -signal.SIGKILL
    verify(backups)
    name = fresh()
    restore(target, backups, "-db", db, "-newdb", name)
    assert points(target, name) == expected
    done = backup(source, backups, "-db", db)
    assert done.out.count("Backing up node") == 1
    listed = {path.name for path in backups.glob("*.manifest*")}
    for manifest in backups.glob("*.manifest"):
        document = json.loads(manifest.read_text())
        listed |= {document["meta"]["fileName"], *(f["fileName"] for f in document["files"])}
    listed |= {path.name for path in backups.glob("*.receipt.json")}
    assert visible(backups) == listed
    name = fresh()
    restore(target, backups, "-db", db, "-newdb", name)
    assert points(target, name) == points(source, db)


def kill_amid_upload(target: Influxd, db: str, name: str, backups: Path) -> None:
    with Proxy(target.bind_addr) as proxy:
        proxy.break_next(Stall(20, direction="to server"), chosen=uploads)
        process = started(
            "restore", *at(target, tcp=proxy.address), "-db", db, "-newdb", name, backups
        )
        assert proxy.stalled.wait(timeout=20)
        ended(process, signal.SIGKILL)


@pytest.mark.fault(63)
def test_the_next_restore_goes_on_where_a_killed_one_was(
    source: Influxd, target: Influxd, backups: Path, life: tuple[str, Points], fresh: Fresh
) -> None:
    db, _ = life
    backup(source, backups, "-db", db)
    name = fresh()
    kill_amid_upload(target, db, name, backups)
    assert name in databases(target)
    noted = shardkeeper("verify", backups)
    assert f"of '{name}' is at work, or was killed" in noted.err, noted
    done = shardkeeper("restore", *at(target), "-db", db, "-newdb", name, backups)
    assert done, done
    assert "a run of this restore was killed; this run continues it" in done.err
    assert points(target, name) == points(source, db)
    assert not list(backups.glob(".shardkeeper.server-restore-*"))


@pytest.mark.fault(63)
def test_what_a_killed_restore_left_is_taken_away_by_another(
    source: Influxd, target: Influxd, backups: Path, life: tuple[str, Points], fresh: Fresh
) -> None:
    db, _ = life
    backup(source, backups, "-db", db)
    name, other = fresh(), fresh()
    kill_amid_upload(target, db, name, backups)
    done = shardkeeper("restore", *at(target), "-db", db, "-newdb", other, backups)
    assert done, done
    assert "removed first" in done.err
    assert name not in databases(target)
    assert points(target, other) == points(source, db)


@pytest.mark.fault(63, 73)
def takes_a_write(server: Influxd, database: str) -> bool:
    """Not while it imports a shard: "shard is disabled"."""
    try:
        server.write(database, [f"mine v=1 {T0}"])
    except InfluxdFailed:
        return False
    return True


def test_points_that_were_written_into_what_a_killed_restore_left_are_kept(
    source: Influxd, target: Influxd, backups: Path, life: tuple[str, Points], fresh: Fresh
) -> None:
    db, _ = life
    backup(source, backups, "-db", db)
    name = fresh()
    kill_amid_upload(target, db, name, backups)
    wait_until(lambda: takes_a_write(target, name), within_s=20, what="a write to be taken")
    before = points(target, name)
    done = shardkeeper("restore", *at(target), "-db", db, "-newdb", name, backups)
    assert done.code == 14, done
    assert f"database '{name}' was left by a restore that was killed" in done.err
    assert "points were written" in done.err
    assert points(target, name) == before
    target.drop_database(name)
    restore(target, backups, "-db", db, "-newdb", name)
    assert points(target, name) == points(source, db)
    assert not list(backups.glob(".shardkeeper.server-restore-*"))
