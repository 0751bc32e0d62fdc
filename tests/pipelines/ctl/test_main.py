"""The command lines themselves: help, flags of both fashions, progress."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pipelines.ctl import render
from pipelines.ctl.main import original_tree, tree
from pipelines.ctl.output import TerminalOutput
from resources.engine.events import LeaseAwaited, MetaSaved, Progress, Warned


def test_influxd_ctl_has_the_originals_commands_and_no_others() -> None:
    original, ours = (
        set(group.list_commands(click.Context(group))) for group in (original_tree, tree)
    )
    assert original == {"backup", "restore", "show", "show-shards", "help"}
    assert ours == {
        *original,
        "config",
        "doctor",
        "export",
        "inspect",
        "list",
        "merge",
        "query",
        "repair-replica",
        "verify",
        "failpoints",
    }


@pytest.mark.parametrize("asked", [["help"], ["-h"], ["-help"], ["--help"]])
def test_help_is_there_however_it_is_asked_for(asked: list[str]) -> None:
    result = CliRunner().invoke(original_tree, asked, prog_name="influxd-ctl")
    assert result.exit_code == 0
    assert "backup" in result.output
    assert "-bind" in result.output


@pytest.mark.parametrize("asked", [["help", "backup"], ["backup", "-h"], ["backup", "--help"]])
def test_a_command_reports_its_flags(asked: list[str]) -> None:
    result = CliRunner().invoke(original_tree, asked, prog_name="influxd-ctl")
    assert result.exit_code == 0
    assert "influxd-ctl backup" in result.output
    assert "the ID of the single shard to back up" in result.output


def test_help_for_nothing_names_what_there_is() -> None:
    result = CliRunner().invoke(original_tree, ["help", "nothing"], prog_name="influxd-ctl")
    assert result.exit_code == 2
    assert "influxd-ctl help lists them" in result.output


def test_help_finds_commands_below_commands() -> None:
    result = CliRunner().invoke(tree, ["help", "config", "check"], prog_name="shardkeeper")
    assert result.exit_code == 0
    assert "shardkeeper config check" in result.output
    for words in (["config", "nothing"], ["backup", "check"]):
        result = CliRunner().invoke(tree, ["help", *words], prog_name="shardkeeper")
        assert f"{' '.join(words)!r} is not a command" in result.output


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["backup", "-full", "-strategy", "only-meta", "x"], "-strategy only-meta none"),
        (["backup", "-estimate", "-full", "-strategy", "only-meta"], "-strategy only-meta none"),
        (["merge", "-db", "x", "-plan", "-abandon", "x"], "-plan is to change nothing"),
        *((command, "it is empty") for command in (["backup", ""], ["verify", ""])),
        (["restore", "-db", "x", ""], "it is empty"),
        (["merge", "-db", "x", ""], "it is empty"),
        (["restore", "-db", "x", "-newdb", "a/b", "."], "-newdb 'a/b' holds a path separator"),
        (["merge", "-db", "x", "-newdb", "..", "."], "-newdb '..' is a special directory"),
        (["restore", "-db", "x", "-rp", "y", "-newrp", "a/b", "."], "-newrp 'a/b' holds a path"),
        (["-pwd-file", "/no/such", "show"], "-pwd-file /no/such: No such file or directory\n"),
    ],
)
def test_what_cannot_be_meant_is_refused_as_wrong_usage(words: list[str], what: str) -> None:
    result = CliRunner().invoke(tree, words)
    assert what in result.output
    assert "  next: " in result.output
    assert result.exit_code == 2


@pytest.mark.parametrize("flag", [["-db", "x"], ["-db=x"], ["--db", "x"], ["--db=x"]])
def test_flags_are_understood_as_go_and_as_gnu_write_them(flag: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(tree, ["restore", "-newdb=y", *flag, str(tmp_path)])
    assert "No manifest files found" in result.output  # -newdb had its -db
    alone = CliRunner().invoke(tree, ["restore", "-newdb=y", str(tmp_path)])
    assert "-newdb needs -db" in alone.output


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_server_is_named_before_or_after_the_command(place: str, tmp_path: Path) -> None:
    where = ["-host", "127.0.0.1:1"]
    words = [*where, "backup"] if place == "before" else ["backup", *where]
    result = CliRunner().invoke(tree, [*words, str(tmp_path)])
    assert result.exit_code == 1
    assert "127.0.0.1:1: connection refused" in result.output


def test_progress_stands_on_a_terminals_last_line_and_in_no_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for on_terminal in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda seen=on_terminal: seen)
        terminal = TerminalOutput(render.backup_line)
        terminal(Progress(1, 9, 5_000_000))
        terminal(LeaseAwaited(47))
        terminal(MetaSaved(421))
        terminal(Warned("look"))
        result = capsys.readouterr()
        assert result.out == "Backing up meta data... Done. 421 bytes transferred\n"
        events = ("1 of 9 shards, 5.0 MB", "waiting for another restore's lease: 47 s left")
        progress = "".join(f"{line}\r\033[K" for line in events) if on_terminal else ""
        assert result.err == f"{progress}warning: look\n"


@pytest.mark.parametrize("command", ["influxd_ctl", "shardkeeper"])
def test_an_interrupt_amid_the_imports_ends_a_run_without_a_word(command: str) -> None:
    program = f"""
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "pipelines.ctl.connection_flags":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
signal.signal(signal.SIGINT, signal.default_int_handler)
from pipelines.ctl.start import {command}
{command}()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
