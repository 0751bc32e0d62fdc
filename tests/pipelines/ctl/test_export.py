"""Points of a backup as text, and the requests that are refused."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.ctl.export_format import CSV, LineProtocol
from resources.embedded.server import EmbeddedServer
from resources.engine.export.tables import Names
from resources.tsm.layout import BlockType
from resources.tsm.merge import SeriesPoints
from tests import builders as b
from tests.wire.commands import shardkeeper

SHARDKEEPER = "from pipelines.ctl.start import shardkeeper; shardkeeper()"
T0 = 1_600_000_000_000_000_000
WEEK = 604_800_000_000_000


def series(key: bytes, kind: BlockType, times: list[int], values: object) -> SeriesPoints:
    kept = values if kind is BlockType.STRING else np.array(values)
    return SeriesPoints(key, kind, np.array(times, np.int64), kept)  # type: ignore[arg-type]


POINTS = [
    series(b"m,k=a#!~#s", BlockType.STRING, [1], [b'say "a,b"\xff']),
    series(b"m,k=a#!~#v", BlockType.FLOAT, [1, 2], [0.1, 1e300]),
    series(b"m#!~#ok", BlockType.BOOLEAN, [2], [True]),
]


def test_a_row_has_all_fields_of_a_series_at_a_time() -> None:
    file = io.BytesIO()
    names = Names({b"k"}, {b"v": set(), b"s": set(), b"ok": set()})
    CSV(file, names)(b.place(1), iter(POINTS))
    assert file.getvalue().decode("utf-8", "surrogateescape").splitlines() == [
        "time,k,ok,s,v",
        '1970-01-01T00:00:00.000000001Z,a,,"say ""a,b""\udcff",0.1',
        "1970-01-01T00:00:00.000000002Z,a,,,1e+300",
        "1970-01-01T00:00:00.000000002Z,,true,,",
    ]


def test_lines_name_their_place_and_what_no_line_can_express_is_counted() -> None:
    file = io.BytesIO()
    writer = LineProtocol(file)
    nan = series(b"m#!~#nan", BlockType.FLOAT, [1], [float("nan")])
    comment = series(b"#m#!~#v", BlockType.FLOAT, [1, 2], [1.0, 2.0])
    writer(b.place(1), iter([POINTS[2], nan, comment]))
    writer(b.place(2), iter([]))
    writer(b.place(3, policy="other"), iter([]))
    assert file.getvalue() == (
        b"# DML\n# CONTEXT-DATABASE:db\n# CONTEXT-RETENTION-POLICY:autogen\nm ok=true 2\n"
        b"# CONTEXT-DATABASE:db\n# CONTEXT-RETENTION-POLICY:other\n"
    )
    assert (writer.n_left_out, writer.left_out) == (3, ["m#!~#nan", "#m#!~#v"])


@pytest.fixture(scope="module")
def backups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of `db`."""
    directory = tmp_path_factory.mktemp("backups")
    with EmbeddedServer(tmp_path_factory.mktemp("server")) as server:
        server.query("CREATE DATABASE db")
        server.write("db", f"cpu,host=a usage=1,n=2i {T0}\ncpu,host=b usage=3 {T0 + WEEK}")
        flags = ("-host", server.tcp_addr, "-http", server.http_addr)
        assert shardkeeper(*flags, "backup", directory)
    return directory


def test_a_range_of_times_is_exported_into_a_new_file(backups: Path, tmp_path: Path) -> None:
    out = tmp_path / "points.lp"
    request = ("export", "-db", "db", "-end", "2020-09-14", "-out", out, backups)
    done = shardkeeper(*request)
    assert done, done
    assert out.read_text().splitlines()[3:] == [
        f"cpu,host=a n=2i {T0}",
        f"cpu,host=a usage=1.0 {T0}",
    ]
    assert out.stat().st_mode & 0o777 == 0o600
    assert "2 values from 1 shard," in done.err
    again = shardkeeper(*request)
    assert (again.code, "exists already" in again.err) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["points.lp"]


def test_measurements_are_listed(backups: Path) -> None:
    done = shardkeeper("inspect", "-json", backups)
    [found] = json.loads(done.out)["measurements"]
    assert (found["measurement"], found["series"], found["values"]) == ("cpu", 2, 3)
    assert "n integer, usage float" in shardkeeper("inspect", backups).out


def test_a_changed_archive_ends_the_export_and_leaves_no_file(
    backups: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "backups"
    copy.mkdir()
    for path in backups.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    archive = next(copy.glob("*.s2.tar.gz"))
    raw = bytearray(archive.read_bytes())
    raw[4] ^= 1  # the time in the head of gzip, which no checksum of gzip covers
    archive.write_bytes(raw)
    done = shardkeeper("export", "-db", "db", "-out", tmp_path / "out", copy)
    assert (done.code, "SHA-256 differs" in done.err) == (13, True)
    archive.unlink()
    done = shardkeeper("export", "-db", "db", "-out", tmp_path / "out", copy)
    assert (done.code, "missing" in done.err) == (13, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ((), "-db is missing"),
        (("-db", "db", "-format", "csv"), "needs -measurement"),
        (("-rp", "autogen"), "-rp needs -db"),
        (("-db", "db", "-tag", "host"), "is not name=value"),
        (("-db", "db", "-start", "2020-01-02", "-end", "2020-01-02"), "-start is not before -end"),
    ],
)
def test_a_request_that_means_nothing_is_refused(
    backups: Path, flags: tuple[str, ...], text: str
) -> None:
    done = shardkeeper("export", *flags, backups)
    assert (done.code, text in done.err) == (2, True)


def test_a_reader_that_goes_away_ends_it_with_a_sentence(backups: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", SHARDKEEPER, "export", "-db", "db", str(backups)]
    try:
        done = subprocess.run(
            command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writing)
    assert done.returncode == 1, done
    assert "standard output was closed" in done.stderr
    assert "Traceback" not in done.stderr
