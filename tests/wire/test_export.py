"""Exported points are those that a real server answers, and another one takes them as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.influxd import Influxd
from tests.resources.tsm.answers import answered
from tests.wire.commands import backup, shardkeeper

pytestmark = pytest.mark.wire

T0 = 1_600_000_000_000_000_000
WEEK = 604_800_000_000_000


def test_a_server_takes_the_lines_and_answers_as_the_source(
    source: Influxd, target: Influxd, backups: Path, fresh: Callable[[], str], tmp_path: Path
) -> None:
    db = "exported"
    source.create_database(db)
    source.write(
        db,
        [
            f'm,k=a\\ {i % 3},w=x\\,y f={i}.1,i={i}i,b={"tf"[i % 2]},s="say \\"{i}\\" {T0}" '
            f"{T0 + i % 2 * WEEK + i}"
            for i in range(60)
        ],
    )
    source.flush(db)
    source.write(
        db, [f"m,k=a\\ 0,w=x\\,y f=-1 {T0}", f"n\\,m \xfcber=1 {T0 + 1}"]
    )  # the later wins
    source.query(f"DELETE FROM m WHERE k='a 1' AND time < {T0 + WEEK}", db=db)
    backup(source, backups, "-db", db)
    done = shardkeeper("export", "-db", db, "-out", tmp_path / "lines", backups)
    assert done, done
    new = fresh()
    target.create_database(new)
    lines = (tmp_path / "lines").read_text().splitlines()
    target.write(new, [line for line in lines if not line.startswith("#")])
    expected = answered(source, db)
    assert answered(target, new) == expected
    csv = shardkeeper(
        "export",
        "-db",
        db,
        "-measurement",
        "m",
        "-format",
        "csv",
        "-out",
        tmp_path / "csv",
        backups,
    )
    assert csv, csv
    rows = {(key.split(b"#!~#")[0], time) for key, found in expected.items() for time, _ in found}
    n_rows = sum(series.startswith(b"m,") for series, _ in rows)
    assert len((tmp_path / "csv").read_text().splitlines()) == 1 + n_rows
