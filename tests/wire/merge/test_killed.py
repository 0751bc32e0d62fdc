"""Merges that are killed, interrupted or cut off go on where they were, or leave nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.influxd import Influxd, wait_until
from tests.wire.commands import at, backup
from tests.wire.merge.scenario import T0, WEEK_NS, leftovers, merge
from tests.wire.points import Points, count, points

pytestmark = pytest.mark.wire


def test_a_merge_that_is_killed_goes_on_where_it_was(
    source: Influxd, backups: Path, fresh: Callable[[], str]
) -> None:
    db = fresh()
    source.create_database(db)
    for week in range(4):
        lines = [f"m{n % 5},k=k{n % 3} v={n}i {T0 + week * WEEK_NS + n}" for n in range(2_000)]
        source.write(db, lines)
    backup(source, backups)
    before = points(source, db)
    source.drop_database(db)
    source.create_database(db)
    temporary, seen = set[str](), 0
    for _ in range(3):
        process = _start(source, backups, "-db", db, "-points", 20)

        def further(before: int = seen) -> bool:
            return bool(_journal(backups)) and count(points(source, db)) > before

        try:
            wait_until(further, within_s=60, what="the merge to get further")
        finally:
            process.kill()
            process.wait()
        found = _journal(backups)
        assert found is not None
        temporary.add(found["temporary"])
        seen = count(points(source, db))
    # Each went on with the database that the first had restored, from where it was.
    assert len(temporary) == 1
    assert 0 < seen < count(before)
    other = merge(source, backups, "-db", db, "-rp", "autogen")
    assert other.code == 14
    assert "is not finished" in other.err
    done = merge(source, backups, "-db", db)
    assert done, done
    assert "Going on to merge" in done.out
    assert "Restoring" not in done.out
    assert points(source, db) == before
    assert leftovers(source, backups) == []
    assert f"Merged {count(before)} values" in done.out
    new = [int(line.split(": ")[1].split()[0]) for line in done.out.splitlines() if "new," in line]
    # A statement that ran when the merge was killed may have come to its end after the count.
    assert 0 < sum(new) <= count(before) - seen


def test_a_merge_that_is_killed_while_it_restores_begins_anew(
    source: Influxd, backups: Path, lost: tuple[str, Points]
) -> None:
    db, before = lost
    process = _start(source, backups, "-db", db)
    try:
        wait_until(lambda: _journal(backups), within_s=60, what="the journal")
    finally:
        process.kill()
        process.wait()
    done = merge(source, backups, "-db", db)
    assert done, done
    assert points(source, db) == before
    assert leftovers(source, backups) == []


def test_a_merge_that_is_killed_before_anything_was_restored_begins_anew(
    source: Influxd, backups: Path, lost: tuple[str, Points]
) -> None:
    db, before = lost
    process = _start(source, backups, "-db", db, "-points", 1)
    try:
        wait_until(lambda: (_journal(backups) or {}).get("shards"), within_s=60, what="the copying")
    finally:
        process.kill()
        process.wait()
    # As if it had been killed earlier: there is nothing of its name yet.
    [path] = backups.glob(".shardkeeper.merge-*.json")
    journal = {**json.loads(path.read_bytes()), "shards": None, "complete": False}
    path.write_text(json.dumps(journal))
    source.drop_database(journal["temporary"])
    done = merge(source, backups, "-db", db)
    assert done, done
    assert f"Merged {count(before)} values" in done.out
    assert points(source, db) == before
    assert leftovers(source, backups) == []


def test_a_server_that_is_away_for_a_moment_is_waited_for(
    influxd_factory: Callable[..., Influxd], tmp_path: Path
) -> None:
    server = influxd_factory()
    server.create_database("db")
    server.write("db", [f"m,k=k{n % 3} v={n}i {T0 + n}" for n in range(4_000)])
    backups = tmp_path / "backups"
    backups.mkdir()
    backup(server, backups)
    before = points(server, "db")
    server.drop_database("db")
    server.create_database("db")
    process = _start(server, backups, "-db", "db", "-points", 20)
    wait_until(
        lambda: server.rows("SELECT count(v) FROM m", db="db"), within_s=60, what="first points"
    )
    server.kill()
    time.sleep(1.5)
    server.start()
    assert process.wait(timeout=120) == 0
    assert points(server, "db") == before
    assert leftovers(server, backups) == []


def test_interrupting_says_how_to_go_on_and_abandoning_drops_what_was_made(
    source: Influxd, backups: Path, lost: tuple[str, Points]
) -> None:
    db, _ = lost
    code, err, left = 0, b"", 10
    while code == 0 and left:  # one may be done before it hears
        code, err = _asked_to_stop(_start(source, backups, "-db", db, "-points", 1), backups)
        left -= 1
    assert code == 130
    assert b"the same command continues from there" in err
    done = merge(source, backups, "-db", db, "-abandon")
    assert done, done
    assert leftovers(source, backups) == []
    again = merge(source, backups, "-db", db, "-abandon")
    assert again.code == 1
    assert "no unfinished merge" in again.err


def _start(server: Influxd, directory: Path, *flags: object) -> subprocess.Popen[bytes]:
    code = "from pipelines.ctl.main import shardkeeper; shardkeeper()"
    words = [sys.executable, "-c", code, "merge", *at(server), *map(str, flags), str(directory)]
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def _asked_to_stop(process: subprocess.Popen[bytes], backups: Path) -> tuple[int, bytes]:
    """Its status and what it said, having been told once it copies."""

    def copying_or_done() -> bool:
        return bool((_journal(backups) or {}).get("shards")) or process.poll() is not None

    wait_until(copying_or_done, within_s=60, what="the copying")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def _journal(directory: Path) -> dict[str, Any] | None:
    for path in directory.glob(".shardkeeper.merge-*.json"):
        return json.loads(path.read_bytes())
    return None
