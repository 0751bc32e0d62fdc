"""Flags of `influxd backup` and `influxd restore` are taken, or answered with ours."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pipelines.ctl import influxd_flags, main
from pipelines.ctl.influxd_flags import EQUAL, INSTEAD, NEEDLESS, translated


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        (["-portable", "-database", "m", "x"], ["-db", "m", "x"]),
        (["--portable=true", "--database=m", "x"], ["-db=m", "x"]),
        (["-retention", "autogen", "--", "-portable"], ["-rp", "autogen", "--", "-portable"]),
        (["-portable=false", "x"], ["-portable=false", "x"]),
    ],
)
def test_flags_with_an_equal_become_ours(words: list[str], ours: list[str]) -> None:
    assert translated("backup", words) == ours


def test_other_commands_take_their_own_flags_alone() -> None:
    assert translated("verify", ["-portable", "x"]) == ["-portable", "x"]


@pytest.mark.parametrize("command", ["backup", "restore"])
@pytest.mark.parametrize("tree", [main.tree, main.original_tree])
def test_every_other_flag_is_answered(tree: click.Group, command: str, tmp_path: Path) -> None:
    name = "influxd-ctl" if tree is main.original_tree else "shardkeeper"
    foreign = [*INSTEAD[command]]
    if tree is main.original_tree:
        foreign += [*EQUAL[command], *NEEDLESS[command]]
    for flag in foreign:
        for dashes in ("-", "--"):
            done = CliRunner().invoke(
                tree, [command, f"{dashes}{flag}", "x", str(tmp_path)], prog_name=name
            )
            assert done.exit_code != 0
            assert influxd_flags.advice(command, f"-{flag}") in done.output
            assert "next: " in done.output


def test_a_flag_that_nobody_has_gets_no_advice() -> None:
    done = CliRunner().invoke(main.tree, ["backup", "-nope", "x"], prog_name="shardkeeper")
    assert done.exit_code == 2
    assert "next: " not in done.output
