"""`show` and `show-shards` of a cluster and of a single server, as both programs run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from resources.clients.coordinator import CoordinatorClient
from resources.embedded.cluster import EmbeddedCluster
from resources.model import ShardID
from tests.influxd import Influxd
from tests.wire.commands import Done, at, influxd_ctl, shardkeeper

both_programs = pytest.mark.parametrize(
    "program", [influxd_ctl, shardkeeper], ids=["influxd-ctl", "shardkeeper"]
)


@pytest.mark.wire
@both_programs
def test_a_real_server_lists_the_shards_that_it_says_it_has(
    influxd: Influxd, program: Callable[..., Done]
) -> None:
    name = program.__name__
    influxd.create_database(name)
    influxd.query(f"CREATE RETENTION POLICY day ON {name} DURATION 1000000h REPLICATION 1")
    influxd.write(name, "cpu v=1 1600000000000000000")
    influxd.query(f"SELECT * INTO {name}.day.cpu FROM {name}..cpu")
    done = program(*at(influxd), "show-shards")
    assert (done.code, done.err) == (0, "")
    # Those of other databases may come and go between the two questions.
    listed = [row for line in done.out.splitlines()[3:] if (row := line.split())[1] == name]
    result = [
        [
            str(shard_id),
            db,
            rp,
            "1",
            str(group_id),
            start,
            end,
            *([] if rp == "autogen" else [expires]),
            "[]",
        ]
        for shard_id, db, rp, group_id, start, end, expires, _ in influxd.rows("SHOW SHARDS")
        if db == name
    ]
    assert sorted(listed) == sorted(result)
    assert {row[2] for row in listed} == {"autogen", "day"}
    done = program(*at(influxd), "show")
    assert done.code == 0
    assert done.out.startswith(f"{influxd.bind_addr} is a single server")


@both_programs
def test_both_programs_show_a_cluster(tmp_path: Path, program: Callable[..., Done]) -> None:
    with EmbeddedCluster(tmp_path, meta_nodes=1, data_nodes=2) as cluster:
        connection = ("-bind", cluster.meta[0].http_addr)
        cluster.query("CREATE DATABASE telegraf WITH REPLICATION 2")
        cluster.write("telegraf", "cpu v=1 1600000000000000000")
        done = program(*connection, "show")
        assert (done.code, done.err) == (0, "")
        for node in cluster.data:
            assert f"\t{node.tcp_addr}\t" in done.out
        assert f"\t{cluster.meta[0].http_addr}\t" in done.out.split("Meta Nodes")[1]

        brief, detailed = (
            program(*connection, "show-shards"),
            program(*connection, "show-shards", "-v"),
        )
        assert (brief.code, detailed.code) == (0, 0)
        assert "1   telegraf  autogen           2  " in brief.out
        assert "Size:" not in brief.out
        assert detailed.out.count("Size:") == 2


def test_names_are_printed_in_utf8_where_the_locale_misses_them(tmp_path: Path) -> None:
    with EmbeddedCluster(tmp_path, meta_nodes=1, data_nodes=1) as cluster:
        cluster.query('CREATE DATABASE "日本"')
        cluster.write("日本", "cpu v=1 1600000000000000000")
        program = "from pipelines.ctl.main import influxd_ctl; influxd_ctl()"
        connection = ("-bind", cluster.meta[0].http_addr)
        done = subprocess.run(
            [sys.executable, "-c", program, *connection, "show-shards"],
            env={**os.environ, "PYTHONIOENCODING": "latin-1"},
            capture_output=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "1   日本        autogen  ".encode() in done.stdout


@both_programs
def test_without_a_listener_the_next_step_is_named(program: Callable[..., Done]) -> None:
    done = program("-bind", "127.0.0.1:1", "show-shards")
    assert done.code == 1
    assert not done.out
    assert done.err.startswith("show-shards: operation exited with error: 127.0.0.1:1: ")
    assert "\n  next: " in done.err


def test_shards_about_which_disks_and_metastore_disagree_are_shown_alone(tmp_path: Path) -> None:
    with EmbeddedCluster(tmp_path / "cluster", meta_nodes=1, data_nodes=2) as cluster:
        cluster.query("CREATE DATABASE telegraf WITH REPLICATION 2")
        for week in range(3):
            cluster.write("telegraf", f"cpu v=1 {1_600_000_000 + week * 604_800}", precision="s")
        bind = ("-bind", cluster.meta[0].http_addr, "show-shards", "-m")
        head = "Shards\n==========\nID  Database  Retention Policy"
        consistent = influxd_ctl(*bind)
        assert consistent.out.startswith(head)
        assert len(consistent.out.splitlines()) == 3
        first, second = (CoordinatorClient(node.tcp_addr) for node in cluster.data)
        first.remove_shard(ShardID(2))  # in metadata and not on that disk
        second.create_shard(ShardID(99), "gone", "autogen")  # on that disk and not in metadata
        cluster.disown(ShardID(3))
        lost, disowned, stray = influxd_ctl(*bind).out.splitlines()[3:]
        assert lost.startswith("2   telegraf  autogen")
        assert f"{{ID:{cluster.data[0].id} TCPAddr:{first.tcp_addr} State: " in lost
        assert sorted(re.findall(r"Err:([^}]+)}", lost)) == ["nil", "not found"]
        assert disowned.startswith("3   telegraf")
        assert disowned.count("Err:not in metadata}") == 2
        assert stray.split()[:3] == ["99", "0", "0"]
        assert f"TCPAddr:{second.tcp_addr}" in stray
        assert stray.endswith("Err:not in metadata}]")
        cluster.stop_node(1)
        done = influxd_ctl(*bind)
        assert f"{second.tcp_addr}: connection refused" in done.err
        assert "its shards are not checked" in done.err
        assert [line.split()[0] for line in done.out.splitlines()[3:]] == ["2", "3"]
