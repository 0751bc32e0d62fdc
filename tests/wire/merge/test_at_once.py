"""Two merges into one live database at once, while its users write and delete: nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.influxd import Influxd
from tests.wire.commands import at, backup
from tests.wire.merge.scenario import T0, WEEK_NS, leftovers
from tests.wire.merge.stored import Key, Value, stored

MAIN = "from pipelines.ctl.main import shardkeeper; shardkeeper()"
WITHIN_S = 240
"""Much less is needed where nothing else runs."""


@pytest.mark.wire
def test_two_merges_into_a_database_that_lives_lose_nothing(
    source: Influxd, tmp_path: Path, fresh: Callable[[], str]
) -> None:
    live, before = fresh(), dict[Key, set[Value]]()
    merges: list[list[str]] = []
    for n in range(2):
        db, directory = fresh(), tmp_path / f"{n}"
        directory.mkdir(mode=0o700)
        source.create_database(db)
        both = [f"both,k=k{i} v={i}i {T0 + i}" for i in range(50)]
        own = [f"m,of={n} v={i}i {T0 + i % 3 * WEEK_NS + i}" for i in range(200)]
        source.write(db, both + own)
        backup(source, directory)
        before |= stored(source.bind_addr, db)
        source.drop_database(db)
        merges.append(
            ["merge", *at(source), "-db", db, "-newdb", live, "-points", "50", str(directory)]
        )
    source.create_database(live)
    running = [_start(words) for words in merges]
    written, deleted = 0, 0
    while any(process.poll() is None for process in running) or not deleted:
        source.write(
            live,
            [
                f"m,of=0 user={written}i {T0 + WEEK_NS + written}",
                f"visits v={written}i {T0 + written}",
            ],
        )
        written += 1
        if written % 8 == 0:
            source.query(f"DELETE FROM visits WHERE time < {T0 + written // 2}", db=live)
            deleted = written // 2
    for process in running:
        out, err = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 0, (out, err)
    there = stored(source.bind_addr, live)
    assert {key: there.get(key) for key in before} == before
    theirs = b"visits#!~#v", b"m,of=0#!~#user"
    of_users = {(key, time - T0) for _, key, time in there if key in theirs}
    assert of_users == {
        *((b"m,of=0#!~#user", WEEK_NS + n) for n in range(written)),
        *((b"visits#!~#v", n) for n in range(deleted, written)),
    }
    assert leftovers(source, tmp_path / "0") == leftovers(source, tmp_path / "1") == []


def _start(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
