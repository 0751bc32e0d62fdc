"""A backup as data: what `import shardkeeper` gives, type by type."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shardkeeper

from resources.embedded.server import EmbeddedServer
from tests.wire.commands import shardkeeper as command

T0 = 1_600_000_000_000_000_000
WEEK = 604_800_000_000_000
BIG = 2**53 + 1
"""No float has this value."""


@pytest.fixture(scope="module")
def backups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`db` with two shards in its default policy, and one in `old`."""
    directory = tmp_path_factory.mktemp("backups")
    with EmbeddedServer(tmp_path_factory.mktemp("server")) as server:
        server.query("CREATE DATABASE db")
        server.query('CREATE RETENTION POLICY old ON "db" DURATION INF REPLICATION 1')
        lines = [
            f"cpu,host=a usage=1.5,n={BIG}i {T0 + 1}",
            f"cpu,host=b,zone=z usage=2.5 {T0}",
            f'cpu,host=b,zone=z n={-BIG}i,ok=true,s="say \\"ü\\"" {T0 + WEEK}',
            f"cpu usage=4 {T0 + WEEK + 1}",
            f"mem free=7 {T0}",
        ]
        server.write("db", "\n".join(lines))
        server.write("db", f"cpu,host=a usage=9 {T0}", policy="old")
        flags = ("-host", server.tcp_addr, "-http", server.http_addr)
        assert command(*flags, "backup", directory)
    return directory


@pytest.fixture(scope="module")
def backup(backups: Path) -> shardkeeper.Backup:
    return shardkeeper.open(backups)


def test_a_backup_lists_what_it_holds(backup: shardkeeper.Backup, backups: Path) -> None:
    assert backup.databases == ["db"]
    shards = [(one.policy, one.values, one.end_ns - one.start_ns) for one in backup.shards]
    assert shards == [("autogen", 4, WEEK), ("autogen", 4, WEEK), ("old", 1, WEEK)]
    assert backup.shards[0].start == pd.Timestamp("2020-09-07T00:00:00Z")
    assert (backups / f"{backup.name}.manifest").exists()
    names = [(one.policy, one.name, one.tags, one.fields) for one in backup.measurements("db")]
    fields = {"n": "integer", "ok": "boolean", "s": "string", "usage": "float"}
    assert names == [
        ("autogen", "cpu", ("host", "zone"), fields),
        ("autogen", "mem", (), {"free": "float"}),
        ("old", "cpu", ("host",), {"usage": "float"}),
    ]
    assert [one.name for one in backup.measurements("db", policy="old")] == ["cpu"]


def test_a_frame_keeps_types_and_knows_what_is_missing(backup: shardkeeper.Backup) -> None:
    frame = backup.frame("db", "cpu")
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        "time": "datetime64[ns, UTC]",
        "host": "category",
        "zone": "category",
        "n": "Int64",
        "ok": "boolean",
        "s": "string",
        "usage": "Float64",
    }
    assert frame["time"].astype("int64").tolist() == [T0, T0 + 1, T0 + WEEK, T0 + WEEK + 1]
    assert frame["n"].tolist() == [pd.NA, BIG, -BIG, pd.NA]
    assert frame["ok"].tolist() == [pd.NA, pd.NA, True, pd.NA]
    assert frame["s"].tolist() == [pd.NA, pd.NA, 'say "ü"', pd.NA]
    assert frame["usage"].tolist() == [2.5, 1.5, pd.NA, 4.0]
    assert frame["host"].astype(object).where(frame["host"].notna(), None).tolist() == [
        "b",
        "a",
        "b",
        None,
    ]


def test_a_frame_has_what_was_chosen(backup: shardkeeper.Backup) -> None:
    def times(*args: object, **chosen: object) -> list[int]:
        frame = backup.frame("db", "cpu", *args, **chosen)  # type: ignore[arg-type]
        return frame["time"].astype("int64").tolist()

    assert times(where={"host": "b"}) == [T0, T0 + WEEK]
    assert times(where={"host": None}) == [T0 + WEEK + 1]
    assert times(T0 + 1, T0 + WEEK) == [T0 + 1]
    assert times(pd.Timestamp(T0 + 1, tz="UTC"), datetime(2020, 9, 14, tzinfo=UTC)) == [T0 + 1]
    assert times("2020-09-14") == [T0 + WEEK, T0 + WEEK + 1]
    assert times(fields=["ok"]) == [T0 + WEEK]
    assert times(policy="old") == [T0]
    assert backup.frame("db", "cpu", fields=["n"]).columns.tolist() == ["time", "host", "zone", "n"]
    assert backup.frame("db", "none").columns.tolist() == ["time"]
    assert len(backup.frame("db", "none")) == 0


def test_bytes_are_kept_where_text_is_not_wanted(backup: shardkeeper.Backup) -> None:
    frame = backup.frame("db", b"cpu", where={"host": b"b"}, strings="bytes")
    assert frame["s"].tolist() == [None, 'say "ü"'.encode()]
    assert frame["host"].tolist() == [b"b", b"b"]


@pytest.mark.parametrize(
    ("arguments", "chosen", "text"),
    [
        (("none", "cpu"), {}, "database 'none' does not exist"),
        (("db", "cpu"), {"policy": "none"}, "no retention policy 'none'"),
        (("db", "cpu", datetime(2020, 1, 1)), {}, "has no time zone"),  # noqa: DTZ001
        (("db", "cpu", "yesterday"), {}, "is no time"),
        (("db", "cpu", 5, 5), {}, "start is not before end"),
        (("db", "cpu"), {"fields": "n"}, "fields is one name"),
    ],
)
def test_a_request_that_means_nothing_is_refused(
    backup: shardkeeper.Backup, arguments: tuple[str, str], chosen: dict[str, str], text: str
) -> None:
    with pytest.raises(shardkeeper.ShardkeeperError, match=text):
        backup.frame(*arguments, **chosen)  # type: ignore[arg-type]


def test_batches_are_arrow_with_the_types_of_the_server(backup: shardkeeper.Backup) -> None:
    reader = backup.batches("db", "cpu", max_rows=1)
    tag = pa.dictionary(pa.int32(), pa.string())
    kinds = [pa.timestamp("ns", tz="UTC"), tag, tag, pa.int64(), pa.bool_(), pa.string()]
    assert reader.schema.types == [*kinds, pa.float64()]
    assert reader.schema.metadata[b"shardkeeper.policy"] == b"autogen"
    assert reader.schema.field("n").metadata[b"shardkeeper.type"] == b"integer"
    found = list(reader)
    assert [len(batch) for batch in found] == [1, 1, 1, 1]
    rows = sorted((row for batch in found for row in batch.to_pylist()), key=lambda r: r["time"])
    frame = backup.frame("db", "cpu")
    for column in "n", "ok", "s", "usage", "host":
        values = [None if pd.isna(value) else value for value in frame[column]]
        assert [row[column] for row in rows] == values


def test_errors_of_the_reading_pass_through_arrow(backups: Path, tmp_path: Path) -> None:
    for path in backups.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    reader = shardkeeper.open(tmp_path).batches("db", "cpu")
    next(tmp_path.glob("*.s1.tar.gz")).write_bytes(b"hello")
    with pytest.raises(shardkeeper.ShardkeeperError):
        list(reader)


def test_without_pyarrow_the_next_step_is_named(
    backup: shardkeeper.Backup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(shardkeeper.ShardkeeperError) as failed:
        backup.batches("db", "cpu")
    assert failed.value.hint == "pip install 'shardkeeper[points]'"
    assert len(backup.frame("db", "cpu")) == 4


def test_the_import_is_light_and_the_name_is_ours(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "import shardkeeper\n"
        "idle = ('dagster', 'pandas', 'pyarrow', 'duckdb', 'pydantic')\n"
        "sys.exit(' '.join(name for name in idle if name in sys.modules) or 0)"
    )
    root = Path(__file__).parents[3]
    paths = [str(root), str(root / "resources/import_name")]
    done = subprocess.run([sys.executable, "-c", code, *paths], cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_numbers_of_a_batch_are_not_copied() -> None:
    from resources.points.arrow import record_batch, schema_of
    from resources.points.batches import Batch, FieldColumn
    from resources.points.table import Table
    from resources.tsm.layout import BlockType

    table = Table.of((), {b"v": {BlockType.FLOAT}})
    values, times = np.array([1.5, 2.5]), np.array([1, 2], np.int64)
    batch = Batch(times, (FieldColumn(values, None),))
    made = record_batch(batch, table, schema_of(table, {}, "str"), "str")
    assert made.column(1).buffers()[1].address == values.ctypes.data
