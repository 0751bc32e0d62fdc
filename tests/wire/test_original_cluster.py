"""The manual of `influxd-ctl` 1.2, example by example, on embedded clusters.

Two data nodes and replication 2 make one shard of two copies, as in its examples. Standard
output is the manual's; ours goes to standard error.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from resources.embedded.cluster import EmbeddedCluster
from tests.wire.commands import Done, influxd_ctl
from tests.wire.original_lines import (
    FROM_HERE,
    META,
    NOT_EMPTY,
    STAMP,
    backed_up,
    lines,
    refusal,
    restore_lines,
    restored,
    shard_line,
)

ALL = "SELECT * FROM cpu GROUP BY *"
N_POINTS = 471
ERROR = r"Restoring meta data\.\.\. Error\."


def internal(cluster: EmbeddedCluster) -> None:
    cluster.query("CREATE DATABASE _internal WITH DURATION 7d REPLICATION 2 NAME monitor")
    cluster.write("_internal", f"runtime Alloc=1 {time.time_ns()}")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """`_internal` in shard 1, telegraf in shard 2."""
    with EmbeddedCluster(tmp_path_factory.mktemp("source"), meta_nodes=3, data_nodes=2) as running:
        internal(running)
        running.query("CREATE DATABASE telegraf WITH REPLICATION 2")
        points = [f"cpu,host=h{i % 9} v={i} {1_600_000_000 + i}" for i in range(N_POINTS)]
        running.write("telegraf", "\n".join(points), precision="s")
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """A cluster that has nothing but its `_internal`, in shard 1."""
    with EmbeddedCluster(tmp_path / "target", meta_nodes=1, data_nodes=2) as running:
        internal(running)
        yield running


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "my-incremental-backup"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


def run(cluster: EmbeddedCluster, *words: object) -> Done:
    return influxd_ctl("-bind", cluster.meta[-1].http_addr, *words)


def events(cluster: EmbeddedCluster, database: str = "telegraf") -> list[Any]:
    return [cluster.query(ALL, database=database, at=at)["results"] for at in range(2)]


def files(directory: Path) -> list[str]:
    """Names below a directory, without the stamp that they share."""
    names = sorted(path.name for path in directory.iterdir() if path.name[0] != ".")
    assert len({name.partition(".")[0] for name in names}) == 1
    assert re.fullmatch(STAMP, names[0].partition(".")[0])
    return [name.partition(".")[2] for name in names]


def test_backup_examples_1_and_3_an_incremental_backup_of_all_and_of_one_database(
    source: EmbeddedCluster, here: Path, tmp_path: Path
) -> None:
    done = run(source, "backup", ".")
    assert (done.code, done.err) == (0, "")
    either = [shard_line("_internal", "monitor", "1"), shard_line("telegraf", "autogen", "2")]
    any_order = "|".join(f"(?:{line.replace('?P<n>', '')})" for line in either)
    lines(done, META, any_order, any_order, backed_up("."))
    sizes = [int(n) for n in re.findall(r"(\d+) bytes", done.out)]
    assert sizes[-1] == sum(sizes[:-1])
    assert files(here) == ["manifest", "manifest.copy", "meta", "s1.tar.gz", "s2.tar.gz"]
    nodes = {node.tcp_addr for node in source.data}
    assert set(re.findall(r"Backing up node (\S+), db", done.out)) <= nodes
    # Only what has changed since is copied; a database alone has a directory of its own.
    lines(run(source, "backup", "."), META, backed_up("."))
    alone = tmp_path / "telegrafbackup"
    refused = run(source, "backup", "-db", "telegraf", alone)
    assert refused.code == 1
    assert "no such directory" in refused.err
    alone.mkdir()
    done = run(source, "backup", "-db", "telegraf", alone)
    lines(done, META, shard_line("telegraf", "autogen", "2"), backed_up(alone))
    assert files(alone) == ["manifest", "manifest.copy", "meta", "s2.tar.gz"]


def test_backup_example_2_and_restore_example_2_a_full_backup(
    source: EmbeddedCluster, target: EmbeddedCluster, tmp_path: Path
) -> None:
    directory = tmp_path / "backup_dir"
    directory.mkdir()
    done = run(source, "backup", "-full", "-db", "telegraf", directory)
    lines(done, META, shard_line("telegraf", "autogen", "2"), backed_up(directory))
    [manifest] = directory.glob("*.manifest")
    done = run(target, "restore", "-full", manifest)
    assert done.code == 0, done
    found = lines(
        done,
        rf"Using manifest: {re.escape(str(manifest))}",
        *restore_lines("telegraf", 2, 2, copies=2),
        restored(directory),
    )
    assert found[-1]["n"] == found[-2]["n"]
    assert int(found[-1]["n"]) % 512 == 0  # of one copy
    assert events(target) == events(source)


def test_restore_example_1_an_incremental_restore_into_a_cluster_with_data_and_without(
    source: EmbeddedCluster, target: EmbeddedCluster, here: Path
) -> None:
    assert run(source, "backup", here)
    target.query("CREATE DATABASE telegraf")
    target.write("telegraf", "cpu v=1 1600000000000000000")
    refused = run(target, "restore", ".")
    lines(refused, *FROM_HERE, ERROR)
    assert target.data[0].tcp_addr not in refused.out
    assert "-db telegraf -newdb NAME" in refusal(refused, NOT_EMPTY)
    target.query("DROP DATABASE telegraf")
    done = run(target, "restore", ".")
    assert done.code == 0, done
    new = int(re.findall(r"shard 2 to shard (\d+)\.\.\.", done.out)[0])
    lines(done, *FROM_HERE, *restore_lines("telegraf", 2, new, copies=2), restored("."))
    assert events(target) == events(source)
    # What was in its `_internal` is dropped, and the backup's is not restored.
    runtime = target.query("SELECT * FROM runtime", database="_internal")["results"]
    assert runtime == [{"statement_id": 0}]


def test_restore_examples_3_and_4_under_a_new_name_and_merged_into_the_living(
    source: EmbeddedCluster, target: EmbeddedCluster, here: Path
) -> None:
    assert run(source, "backup", here)
    # It was dropped by mistake, and its clients have made it anew.
    target.query("CREATE DATABASE telegraf WITH REPLICATION 2")
    target.write("telegraf", "cpu,host=new v=1 1600000000000000000")
    refused = run(target, "restore", "-db", "telegraf", ".")
    lines(refused, *FROM_HERE, ERROR)
    refusal(refused, NOT_EMPTY)
    done = run(target, "restore", "-db", "telegraf", "-newdb", "restored_telegraf", ".")
    assert done.code == 0, done
    new = int(re.findall(r"shard 2 to shard (\d+)\.\.\.", done.out)[0])
    assert new > 2
    lines(done, *FROM_HERE, *restore_lines("telegraf", 2, new, copies=2), restored("."))
    into = "SELECT * INTO telegraf..:MEASUREMENT FROM /.*/ GROUP BY *"
    [result] = target.query(into, database="restored_telegraf")["results"]
    [series] = result["series"]
    assert (series["name"], series["columns"]) == ("result", ["time", "written"])
    assert series["values"] == [[0, N_POINTS]]
    [merged] = target.query("SELECT count(v) FROM cpu", database="telegraf")["results"]
    assert merged["series"][0]["values"][0][1] == N_POINTS + 1


def test_the_contents_of_a_backup_and_what_is_asked_for_in_vain(
    source: EmbeddedCluster, target: EmbeddedCluster, here: Path, tmp_path: Path
) -> None:
    assert run(source, "backup", here)
    listed = run(target, "restore", "-list", ".")
    assert (listed.code, listed.err) == (0, "")
    assert listed.out.startswith("Using backup directory: .\nUsing meta backup: ")
    assert [line.split()[:3] for line in listed.out.splitlines()[3:5]] == [
        ["1", "_internal", "monitor"],
        ["2", "telegraf", "autogen"],
    ]
    before = target.group.metastore
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, complaint in (
        (["restore", empty], f"No manifest files found in: {empty}"),
        (["restore", tmp_path / "none"], "no such directory"),
        (["restore", "-full", "."], "-full takes the path of one manifest"),
        (["restore", "-full", "none.manifest"], "does not exist"),
        (["restore", "-newdb", "x", "."], "-newdb needs -db"),
        (["restore", "-db", "telegraf", "-newrp", "x", "."], "-newrp needs -rp"),
        (["restore", "-rp", "autogen", "."], "-rp needs -db"),
        (["restore", "-db", "nodb", "."], "database 'nodb' does not exist"),
        (["restore", "-db", "telegraf", "-rp", "x", "."], "has no retention policy 'x'"),
        (["restore", "-shard", "99", "."], "shard 99 does not exist"),
        (["restore", "-db", "_internal", "."], "never restored"),
        (["backup", "-rp", "autogen", "."], "-rp needs -db"),
        (["backup", "-db", "nodb", "."], "database 'nodb' does not exist"),
        (["backup", "-shard", "99", "."], "shard 99 does not exist"),
        (["backup", "-from", "127.0.0.1:1", "."], "127.0.0.1:1"),
    ):
        done = run(target if words[0] == "restore" else source, *words)
        assert done.code == 1, (words, done)
        assert complaint in done.err, (words, done)
    assert target.group.metastore == before


def test_a_backup_of_metadata_alone_brings_databases_and_policies(
    source: EmbeddedCluster, target: EmbeddedCluster, here: Path
) -> None:
    done = run(source, "backup", "-strategy", "only-meta", ".")
    lines(done, META, backed_up("."))
    assert files(here) == ["manifest", "manifest.copy", "meta"]
    done = run(target, "restore", ".")
    assert done.code == 0, done
    mapped = r"Restoring meta data\.\.\. Done\. Restored in \S+, 0 shards mapped"
    lines(done, *FROM_HERE, mapped, restored("."))
    assert "databases and policies come without points" in done.err
    old, new = (each.group.metastore.database("telegraf") for each in (source, target))
    assert old is not None
    assert new is not None
    [policy] = old.retention_policies
    assert new.retention_policies == (replace(policy, shard_groups=()),)
