"""A flag or path that is empty, as from a variable that is not set, means nothing by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pipelines.ctl.go_flags import MAY_BE_EMPTY
from pipelines.ctl.main import OURS, tree
from tests.wire.commands import influxd_ctl, shardkeeper

REQUIRED = {
    **dict.fromkeys(
        ("backup", "export", "inspect", "list", "merge", "query", "restore", "verify"),
        ("nowhere",),
    ),
    "repair-replica": ("-shard", "1"),
}


def naming(command: click.Command) -> Iterator[str]:
    """The flags of a command that take a text."""
    for option in command.params:
        takes_text = isinstance(option.type, click.types.StringParamType)
        if isinstance(option, click.Option) and takes_text and option.name != MAY_BE_EMPTY:
            yield option.opts[0]


def commands() -> Iterator[tuple[str, str]]:
    context = click.Context(tree, info_name="shardkeeper")
    yield from (("", flag) for flag in naming(tree))
    for name in OURS:
        command = tree.get_command(context, name)
        assert command is not None
        yield from ((name, flag) for flag in naming(command))


@pytest.mark.parametrize(("command", "flag"), list(commands()))
def test_an_empty_value_of_a_flag_that_names_something_is_refused(command: str, flag: str) -> None:
    more = REQUIRED.get(command, ())
    done = shardkeeper(*([command, flag, "", *more] if command else [flag, "", "show"]))
    assert done.code == 2, done
    assert flag in done.err
    assert "it is empty" in done.err


@pytest.mark.parametrize(
    ("flag", "left_out"),
    [
        *((flag, True) for flag in ("-config", "-user", "-pwd", "-secret")),
        *((f"backup {flag}", True) for flag in ("-db", "-rp", "-from", "-start", "-end")),
        *((f"restore {flag}", True) for flag in ("-db", "-rp", "-newdb", "-newrp")),
        ("-bind", False),
        ("-auth-type", False),
        ("backup -strategy", False),
        ("backup -damaged", False),  # ours
        ("-http", False),
    ],
)
def test_the_original_takes_an_empty_text_for_none(
    flag: str, left_out: bool, tmp_path: Path
) -> None:
    """As influxd-ctl of influxdb-cluster 1.8.11-c1.2.0 was seen to do with each of its flags."""
    words = [*flag.split(), ""]
    words = ["-host", "127.0.0.1:1", *words] if words[0] in ("backup", "restore") else words
    words += [] if "backup" in words or "restore" in words else ["backup"]
    done = influxd_ctl(*words, tmp_path)
    assert done.code, done
    assert (flag.split()[-1] in done.err) is not left_out, done


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_an_empty_path_is_not_the_working_directory(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for program in (shardkeeper, influxd_ctl):
        done = program("-host", "127.0.0.1:1", command, "")
        assert done.code, done
        assert "it is empty" in done.err
    assert not list(tmp_path.iterdir())


def test_a_variable_that_is_empty_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFLUX_USERNAME", "")
    assert "it is empty" not in shardkeeper("-host", "127.0.0.1:1", "show").err
