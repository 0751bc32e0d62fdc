"""Rows of a backup: what is printed, what is left out, and what a statement can reach."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from resources.embedded.server import EmbeddedServer
from tests.wire.commands import shardkeeper

T0 = 1_600_000_000_000_000_000
WEEK = 604_800_000_000_000


@pytest.fixture(scope="module")
def backups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of `db`: 4 rows of `cpu`, 2000 of `many`."""
    directory = tmp_path_factory.mktemp("backups")
    with EmbeddedServer(tmp_path_factory.mktemp("server")) as server:
        server.query("CREATE DATABASE db")
        lines = [
            f"cpu,host=a usage=1.5,n={2**53 + 1}i {T0 + 1}",
            f'cpu,host=a,zone=z s="say \\"ü\\", ok",ok=true {T0}',
            f"cpu,host=b usage=4 {T0 + WEEK}",
            f"CPU usage=4 {T0}",
            *(f"many n={i}i {T0 + i}" for i in range(2000)),
        ]
        server.write("db", "\n".join(lines))
        flags = ("-host", server.tcp_addr, "-http", server.http_addr)
        assert shardkeeper(*flags, "backup", directory)
    return directory


CPU = ("query", "-db", "db", "-measurement", "cpu")


def test_rows_are_printed_as_a_table_and_as_csv(backups: Path) -> None:
    done = shardkeeper(*CPU, backups)
    assert done, done
    assert [line.split() for line in done.out.splitlines()[:2]] == [
        ["time", "host", "zone", "n", "ok", "s", "usage"],
        ["2020-09-13T12:26:40.000000001Z", "a", "9007199254740993", "1.5"],
    ]
    done = shardkeeper(*CPU, "-format", "csv", backups)
    assert done.out.splitlines() == [
        "time,host,zone,n,ok,s,usage",
        "2020-09-13T12:26:40.000000001Z,a,,9007199254740993,,,1.5",
        '2020-09-13T12:26:40.000000000Z,a,z,,true,"say ""ü"", ok",',
        "2020-09-20T12:26:40.000000000Z,b,,,,,4.0",
    ]


def test_json_keeps_types_and_says_whether_it_is_complete(backups: Path) -> None:
    done = shardkeeper(*CPU, "-format", "json", "-limit", "2", backups)
    found = json.loads(done.out)
    assert done.code == 0
    assert found["columns"] == ["time", "host", "zone", "n", "ok", "s", "usage"]
    assert found["rows"][0][3:] == [2**53 + 1, None, None, 1.5]
    assert (found["complete"], "more were left out" in done.err) == (False, True)
    done = shardkeeper(*CPU, "-format", "json", "-tag", "zone=z", "-field", "ok", backups)
    [row] = json.loads(done.out)["rows"]
    assert row == ["2020-09-13T12:26:40.000000000Z", "a", "z", True]


@pytest.mark.parametrize("kind", ["csv", "lp"])
def test_a_limit_that_was_not_asked_for_is_not_status_0(backups: Path, kind: str) -> None:
    many = ("query", "-db", "db", "-measurement", "many", "-format", kind)
    done = shardkeeper(*many, backups)
    lines = [line for line in done.out.splitlines() if line[0] in "2m"]
    assert (done.code, len(lines), "-limit 0 prints all" in done.err) == (3, 1000, True)
    done = shardkeeper(*many, "-limit", "0", backups)
    lines = [line for line in done.out.splitlines() if line[0] in "2m"]
    assert (done.code, len(lines)) == (0, 2000)
    done = shardkeeper(*many, "-limit", "2000", backups)
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("kind", ["table", "csv", "json", "lp"])
@pytest.mark.parametrize("words", [("-measurement", "Many"), (*CPU[3:], "-tag", "host=c")])
def test_no_points_are_named_as_such(backups: Path, kind: str, words: tuple[str, ...]) -> None:
    done = shardkeeper("query", "-db", "db", *words, "-format", kind, backups)
    assert (done.code, "no archive has such points" in done.err) == (0, True), done


def test_a_statement_joins_measurements_and_keeps_nanoseconds(backups: Path) -> None:
    statement = (
        "SELECT max(cpu.time) AS last, max(n) AS n, (SELECT sum(n) FROM many) AS total, count(*) "
        "FROM cpu WHERE host = 'a'"
    )
    sql = ("query", "-db", "db", "-sql", statement, "-format", "json", "-end", "2020-09-14")
    done = shardkeeper(*sql, backups)
    assert done.code == 2  # `CPU` and `cpu` are one name in SQL
    assert "already exists" in done.err
    statement = "SELECT max(time), max(n), sum(n), count(*), 1/0 FROM many"
    done = shardkeeper("query", "-db", "db", "-sql", statement, "-format", "json", backups)
    assert done, done
    [row] = json.loads(done.out)["rows"]
    assert row[:4] == ["2020-09-13T12:26:40.000001999Z", 1999, "1999000", 2000]


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("SELECT * FROM read_csv('/etc/hostname')", "disabled by configuration"),
        ("COPY many TO '/tmp/many.csv'", "disabled by configuration"),
        ("SELECT * FROM none", "does not exist"),
        ("SELEC", "syntax error"),
    ],
)
def test_a_statement_reaches_nothing_but_the_points(
    backups: Path, statement: str, text: str
) -> None:
    done = shardkeeper("query", "-db", "db", "-sql", statement, backups)
    assert (done.code, text in done.err) == (2, True), done
    assert not list(backups.glob(".query-*"))


def test_without_duckdb_the_next_step_is_named(
    backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    done = shardkeeper("query", "-db", "db", "-sql", "SELECT 1", backups)
    assert (done.code, "pip install 'shardkeeper[query]'" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ((), "-db is missing"),
        (("-db", "db"), "name either -measurement or -sql"),
        (("-db", "db", "-measurement", "cpu", "-sql", "SELECT 1"), "name either"),
        (("-db", "db", "-sql", "SELECT 1", "-format", "lp"), "-format lp is for points"),
    ],
)
def test_a_request_that_means_nothing_is_refused(
    backups: Path, flags: tuple[str, ...], text: str
) -> None:
    done = shardkeeper("query", *flags, backups)
    assert (done.code, text in done.err) == (2, True), done


def test_parquet_is_one_file_or_a_partitioned_folder(backups: Path, tmp_path: Path) -> None:
    from pyarrow import dataset, parquet

    export = ("export", "-db", "db", "-format", "parquet", "-out")
    done = shardkeeper(*export, tmp_path / "cpu.parquet", "-measurement", "cpu", backups)
    assert done, done
    table = parquet.read_table(tmp_path / "cpu.parquet")
    assert [str(kind) for kind in table.schema.types] == [
        "timestamp[ns, tz=UTC]",
        "dictionary<values=string, indices=int32, ordered=0>",
        "dictionary<values=string, indices=int32, ordered=0>",
        "int64",
        "bool",
        "string",
        "double",
    ]
    assert table["n"].to_pylist() == [2**53 + 1, None, None]
    assert table.schema.metadata[b"shardkeeper.measurement"] == b"cpu"
    done = shardkeeper(*export, tmp_path / "all", backups)
    assert done, done
    files = sorted(str(path.relative_to(tmp_path / "all")) for path in tmp_path.glob("all/*/*/*"))
    assert files == [
        "policy=autogen/measurement=CPU/1.parquet",
        "policy=autogen/measurement=cpu/1.parquet",
        "policy=autogen/measurement=cpu/2.parquet",
        "policy=autogen/measurement=many/1.parquet",
    ]
    many = dataset.dataset(tmp_path / "all/policy=autogen/measurement=many", format="parquet")
    assert many.to_table()["n"].to_pylist() == list(range(2000))
    done = shardkeeper(*export, tmp_path / "all", backups)
    assert (done.code, "exists already" in done.err) == (2, True)


def test_a_parquet_export_that_fails_leaves_nothing(backups: Path, tmp_path: Path) -> None:
    copy = tmp_path / "backups"
    copy.mkdir()
    for path in backups.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    next(copy.glob("*.s2.tar.gz")).write_bytes(b"hello")
    export = ("export", "-db", "db", "-format", "parquet", "-out")
    for flags in ((tmp_path / "cpu", "-measurement", "cpu"), (tmp_path / "all",)):
        assert shardkeeper(*export, *flags, copy).code == 13
    assert "needs -out" in shardkeeper("export", "-db", "db", "-format", "parquet", copy).err
    assert [path.name for path in tmp_path.iterdir()] == ["backups"]
