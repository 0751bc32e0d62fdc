"""The output of `influxd-ctl backup` and `restore` on a single server, line by line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.influxd import Influxd
from tests.wire.commands import at, influxd_ctl, shardkeeper
from tests.wire.original_lines import (
    FROM_HERE,
    META,
    STAMP,
    backed_up,
    lines,
    restore_lines,
    restored,
    shard_line,
)
from tests.wire.points import points

pytestmark = pytest.mark.wire

T0 = 1_600_000_000_000_000_000
WEEK = 604_800_000_000_000


@pytest.fixture
def telegraf(influxd_factory: Callable[..., Influxd]) -> Influxd:
    server = influxd_factory()
    server.create_database("telegraf")
    server.write("telegraf", [f"cpu,host=h{i} v={i} {T0 + i}" for i in range(10)])
    return server


@pytest.fixture
def empty(influxd_factory: Callable[..., Influxd]) -> Influxd:
    return influxd_factory(index_version="tsi1")


def test_an_incremental_backup(
    telegraf: Influxd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    telegraf.create_database("other")
    telegraf.write("other", f"m v=1 {T0}")
    monkeypatch.chdir(tmp_path)
    done = influxd_ctl("backup", *at(telegraf), ".")
    assert (done.code, done.err) == (0, "")
    either = (
        f"(?:{shard_line('telegraf', 'autogen', '1')})|(?:{shard_line('other', 'autogen', '2')})"
    )
    either = either.replace("?P<n>", "")
    lines(done, META, either, either, backed_up("."))
    numbers = [int(n) for n in re.findall(r"(\d+) bytes", done.out)]
    assert numbers[-1] == sum(numbers[:-1])
    names = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    [stamp] = {name.partition(".")[0] for name in names}
    assert re.fullmatch(STAMP, stamp)
    ends = ("manifest", "manifest.copy", "meta", "s1.tar.gz", "s2.tar.gz")
    assert names == [f"{stamp}.{end}" for end in ends]
    done = influxd_ctl("backup", *at(telegraf), ".")
    lines(done, META, backed_up("."))


def test_a_full_backup(telegraf: Influxd, backups: Path) -> None:
    for _ in range(2):
        done = influxd_ctl("backup", *at(telegraf), "-full", backups)
        assert (done.code, done.err) == (0, "")
        lines(done, META, shard_line("telegraf", "autogen", "1"), backed_up(backups))


def test_an_incremental_backup_of_a_single_database(telegraf: Influxd, backups: Path) -> None:
    telegraf.create_database("other")
    telegraf.write("other", f"m v=1 {T0}")
    done = influxd_ctl(*at(telegraf), "backup", "-db", "telegraf", backups)
    assert (done.code, done.err) == (0, "")
    lines(done, META, shard_line("telegraf", "autogen", "1"), backed_up(backups))
    [manifest] = backups.glob("*.manifest")
    assert '"limited": true' in manifest.read_text()


def test_an_incremental_restore(
    telegraf: Influxd, empty: Influxd, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert influxd_ctl("backup", *at(telegraf), backups)
    monkeypatch.chdir(backups)
    refused = influxd_ctl("restore", *at(telegraf), ".")
    lines(refused, *FROM_HERE, r"Restoring meta data\.\.\. Error\.")
    assert refused.code == 1
    first, hint = refused.err.splitlines()
    assert first == (
        "restore: operation exited with error: "
        "problem setting snapshot: cannot restore into non-empty server"
    )
    assert "-db telegraf -newdb NAME" in hint
    done = influxd_ctl("restore", *at(empty), ".")
    assert (done.code, done.err) == (0, "")
    found = lines(done, *FROM_HERE, *restore_lines("telegraf", 1, 1), restored("."))
    assert found[-1]["n"] == found[-2]["n"]
    assert points(empty, "telegraf") == points(telegraf, "telegraf")


def test_a_full_restore(telegraf: Influxd, empty: Influxd, backups: Path) -> None:
    assert influxd_ctl("backup", *at(telegraf), "-full", backups)
    [manifest] = backups.glob("*.manifest")
    done = influxd_ctl("restore", *at(empty), "-full", manifest)
    assert (done.code, done.err) == (0, "")
    lines(
        done,
        rf"Using manifest: {re.escape(str(manifest))}",
        *restore_lines("telegraf", 1, 1),
        restored(backups),
    )
    assert points(empty, "telegraf") == points(telegraf, "telegraf")


def test_an_incremental_restore_under_a_new_name(
    telegraf: Influxd, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert influxd_ctl("backup", *at(telegraf), backups)
    monkeypatch.chdir(backups)
    done = influxd_ctl(
        "restore", *at(telegraf), "-db", "telegraf", "-newdb", "restored_telegraf", "."
    )
    assert (done.code, done.err) == (0, "")
    lines(done, *FROM_HERE, *restore_lines("telegraf", 1, 2), restored("."))
    telegraf.query("DROP SERIES FROM cpu", db="telegraf")
    telegraf.query(
        "SELECT * INTO telegraf..:MEASUREMENT FROM /.*/ GROUP BY *", db="restored_telegraf"
    )
    assert points(telegraf, "telegraf") == points(telegraf, "restored_telegraf")


def test_restoring_into_a_database_that_exists(
    telegraf: Influxd, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert influxd_ctl("backup", *at(telegraf), backups)
    monkeypatch.chdir(backups)
    for command, code in ((influxd_ctl, 1), (shardkeeper, 14)):
        done = command("restore", *at(telegraf), "-db", "telegraf", ".")
        lines(done, *FROM_HERE, r"Restoring meta data\.\.\. Error\.")
        assert done.code == code
        assert done.err.startswith(
            "restore: operation exited with error: problem setting snapshot: cannot restore into "
            "non-empty server\n"
        )


def test_a_directory_without_backups(empty: Influxd, backups: Path) -> None:
    for command, code in ((influxd_ctl, 1), (shardkeeper, 10)):
        done = command("restore", *at(empty), backups)
        assert done.code == code
        assert f"No manifest files found in: {backups}" in done.err


def test_the_contents_of_a_backup(telegraf: Influxd, backups: Path) -> None:
    assert influxd_ctl("backup", *at(telegraf), backups)
    done = influxd_ctl("restore", "-list", backups)
    assert (done.code, done.err) == (0, "")
    table = done.out.splitlines()
    assert table[0] == f"Using backup directory: {backups}"
    assert table[2].split() == [
        "Shard",
        "Database",
        "Policy",
        "Start",
        "End",
        "Values",
        "Size",
        "Pending",
        "File",
    ]
    shard, db, rp, _, _, n, _, pending, file = table[3].split()
    assert (shard, db, rp, n, pending) == ("1", "telegraf", "autogen", "10", "0")
    assert (backups / file).is_file()


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["restore", "-newdb", "x", "."], "-newdb needs -db"),
        (["restore", "-db", "x", "-newrp", "y", "."], "-newrp needs -rp"),
        (["restore", "-rp", "y", "."], "-rp needs -db"),
        (["backup", "-rp", "y", "."], "-rp needs -db"),
        (["backup"], "Missing argument"),
        (["backup", "-shard", "x", "."], "Invalid value"),
        (["backup", "-nonsense", "."], "-nonsense"),
        (["restore", "-full", "."], "is a directory"),
    ],
)
def test_contradicting_flags_are_refused(
    telegraf: Influxd,
    args: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for command, code in ((influxd_ctl, 1), (shardkeeper, 2)):
        done = command(*at(telegraf), *args)
        assert done.code == code, done
        assert complaint in done.err, done
    assert list(tmp_path.glob("*.manifest")) == []
