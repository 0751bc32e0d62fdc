"""What `influxd-ctl` tells of itself, and how it reads its flags: as the original does."""

from __future__ import annotations

import pstats
from pathlib import Path

import click
import pytest

from pipelines.ctl import original_help
from pipelines.ctl.main import original_tree
from resources.embedded.server import EmbeddedServer
from tests.wire.commands import influxd_ctl, shardkeeper

OBSERVED = """\
Options:

  -auth-type string
    \tType of authentication to use (none, basic, jwt) (default "none")
  -bind string
    \tBind HTTP address of a meta node (default "localhost:8091")
  -bind-tls
    \tUse TLS
  -config string
    \tConfig file path
  -k\tSkip certificate verification (ignored without -bind-tls)
  -pwd string
    \tPassword (ignored without -auth-type basic)
  -secret string
    \tJWT shared secret (ignored without -auth-type jwt)
"""
"""From influxdb-cluster's influxd-ctl, which leaves -config out."""


def test_the_help_has_the_originals_layout_and_flags() -> None:
    for words in ([], ["help"], ["-h"], ["-help"]):
        result = influxd_ctl(*words)
        assert (result.code, result.err) == (0, ""), words
        assert result.out.startswith(
            "Usage: influxd-ctl [options] <command> [options] [<args>]\n\nAvailable commands are:\n"
            "   backup              Backup a cluster\n"
        )
        assert OBSERVED in result.out
        assert "-host" not in result.out
    of_a_command = influxd_ctl("show-shards", "-h")
    assert of_a_command.out.startswith(
        "Usage: influxd-ctl show-shards [options]\n    Shows the shards in a cluster\n\nOptions:\n"
    )
    assert "  -v\tdisplays detailed shard info\n" in of_a_command.out
    assert influxd_ctl("help", "show-shards").out == of_a_command.out


@pytest.mark.parametrize("name", original_help.COMMANDS)
def test_every_flag_that_the_help_names_is_taken_and_is_a_switch_where_it_says_so(
    name: str,
) -> None:
    context = click.Context(original_tree, info_name="influxd-ctl")
    command = original_tree.get_command(context, name)
    assert command is not None
    for group, flags in (
        (original_tree, original_help.GLOBAL),
        (command, original_help.COMMANDS[name].flags),
    ):
        taken = {
            option: param.is_flag
            for param in group.params
            if isinstance(param, click.Option)
            for option in param.opts
        }
        assert {f"-{flag.name}": not flag.kind for flag in flags}.items() <= taken.items()
    names = [flag.name for flag in original_help.COMMANDS[name].flags]
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("restore", ["-plan", "-json", "-as-of", "-receipts", "-keep-tombstoned", "-skip-expired"]),
        ("restore", ["-users", "-host", "-http", "-pwd-file"]),
        ("backup", ["-verify", "-host", "-secret-file"]),
    ],
)
def test_flags_of_ours_are_reported_by_shardkeeper_and_taken_by_both(
    name: str, ours: list[str], tmp_path: Path
) -> None:
    events = shardkeeper("help", name).out
    originals = influxd_ctl(name, "-h").out
    for flag in ours:
        assert f"  {flag}" in events
        assert f"  {flag}" not in originals
    for command in (influxd_ctl, shardkeeper):
        done = command("restore", "-as-of", "2026-01-01", "-receipts", "off", tmp_path)
        assert "No manifest files found" in done.err


def test_a_command_line_that_is_wrong_is_reported_in_the_originals_words() -> None:
    done = influxd_ctl("nonsense")
    assert done.err == "unknown command \"nonsense\"\nRun 'influxd-ctl help' for usage\n"
    for words in (["-x"], ["backup", "-x", "."]):
        done = influxd_ctl(*words)
        assert done.code == 1
        assert done.err.startswith("flag provided but not defined: -x\nUsage: influxd-ctl ")
    assert "unexpected extra argument" in influxd_ctl("show", "x").err
    hostile = influxd_ctl("a\x1b[2Jb")
    assert hostile.err.startswith('unknown command "a\\x1b[2Jb"')


@pytest.mark.parametrize(
    ("word", "seen"),
    [("-list=true", True), ("-list=1", True), ("--list=T", True), ("-list", True),
     ("-list=false", False), ("-list=0", False), ("-list=F", False)],
)  # fmt: skip
def test_a_switch_may_have_a_value(word: str, seen: bool, tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "server") as server:
        where = ("-host", server.tcp_addr, "-http", server.http_addr)
        backups = tmp_path / "backups"
        backups.mkdir()
        assert influxd_ctl(*where, "backup", "-full=true", "-estimate=false", backups)
        done = influxd_ctl(*where, "restore", word, backups)
        assert ("0 shards shown" in done.out) is seen, done


def test_a_switch_has_no_other_value_and_values_of_flags_are_left_alone(tmp_path: Path) -> None:
    done = influxd_ctl("restore", "-list=maybe", tmp_path)
    assert done.code == 1
    assert "invalid boolean value 'maybe'" in done.err
    strange = influxd_ctl("restore", "-newdb", "-list=true", tmp_path)
    assert "-newdb needs -db" in strange.err  # it is the name of a database
    assert "unknown command" in influxd_ctl("-k=true", "restore=true").err


def test_an_estimate_needs_no_directory_and_a_backup_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with EmbeddedServer(tmp_path / "server") as server:
        where = ("-host", server.tcp_addr, "-http", server.http_addr)
        estimated = influxd_ctl(*where, "backup", "-estimate")
        assert estimated, estimated
        refused = influxd_ctl(*where, "backup")
        assert refused.code == 1
        assert "Missing argument" in refused.err
        assert list(tmp_path.glob("*.manifest")) == []


def test_a_profile_of_a_run_can_be_read_with_pstats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    backups = tmp_path / "backups"
    backups.mkdir()
    with EmbeddedServer(tmp_path / "server") as server:
        server.query("CREATE DATABASE telegraf")
        server.write("telegraf", "cpu v=1 1600000000000000000")
        where = ("-host", server.tcp_addr, "-http", server.http_addr)
        done = influxd_ctl(*where, "backup", "-cpuprofile=true", backups)
        assert done, done
    called = {name for _, _, name in pstats.Stats("backup.prof").stats}  # type: ignore[attr-defined]
    assert {"back_up", "_reach_end"} & called
