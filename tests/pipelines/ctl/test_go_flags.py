"""Flags are read as Go's `flag` package reads them: `-full=false` is no flag."""

from __future__ import annotations

import click
import pytest

from pipelines.ctl.go_flags import FALSE, TRUE, require_values, spelled_out
from pipelines.ctl.influxd_flags import UnknownFlag

PARAMS = [
    click.Option(["-full", "full"], is_flag=True),
    click.Option(["-db", "db"]),
    click.Option(["-password", "password"]),
    click.Argument(["path"]),
]


def context(*, interspersed: bool = True) -> click.Context:
    ctx = click.Context(click.Command("backup"), info_name="backup")
    ctx.allow_interspersed_args = interspersed
    return ctx


def spelled(*words: str, interspersed: bool = True) -> list[str]:
    return spelled_out(PARAMS, words, context(interspersed=interspersed))


@pytest.mark.parametrize("value", sorted(TRUE))
def test_a_flag_that_is_true_is_a_flag(value: str) -> None:
    assert spelled(f"-full={value}", "dir") == ["-full", "dir"]


@pytest.mark.parametrize("value", sorted(FALSE))
def test_a_flag_that_is_false_is_none(value: str) -> None:
    assert spelled(f"-full={value}", "dir") == ["dir"]


@pytest.mark.parametrize("value", ["", "yes", "no", "2", "tRUE", "false "])
def test_another_value_of_a_flag_is_refused(value: str) -> None:
    with pytest.raises(click.BadParameter, match="invalid boolean value"):
        spelled(f"-full={value}")


def test_a_value_is_taken_as_it_is_though_it_looks_like_a_flag() -> None:
    assert spelled("-db", "-full=false", "dir") == ["-db", "-full=false", "dir"]
    assert spelled("-db=-full=false") == ["-db=-full=false"]
    assert spelled("-db") == ["-db"]  # click says that its value is missing


@pytest.mark.parametrize("word", ["-dbb", "-x", "--nothing", "-full2=true"])
def test_a_word_that_is_no_flag_of_the_command_is_refused(word: str) -> None:
    with pytest.raises(UnknownFlag):
        spelled(word)


def test_after_two_hyphens_all_words_are_arguments() -> None:
    assert spelled("--", "-x", "-full=false") == ["--", "-x", "-full=false"]


def test_flags_of_a_group_end_at_the_first_argument() -> None:
    assert spelled("-full=true", "backup", "-x", interspersed=False) == ["-full", "backup", "-x"]
    assert spelled("dir", "-full=false") == ["dir"]


def test_a_hyphen_alone_is_an_argument() -> None:
    assert spelled("-", "-full=t") == ["-", "-full"]


def given(**values: str) -> click.Context:
    ctx = context()
    for name, value in values.items():
        ctx.params[name] = value
        ctx.set_parameter_source(name, click.core.ParameterSource.COMMANDLINE)
    return ctx


@pytest.mark.parametrize(
    ("name", "step"), [("db", "give a value, or no flag"), ("path", "name the directory")]
)
def test_an_empty_name_or_path_is_refused_with_the_next_step(name: str, step: str) -> None:
    with pytest.raises(click.BadParameter, match=step) as refused:
        require_values(PARAMS, given(**{name: ""}))
    assert "is a variable not set?" in refused.value.message


def test_a_password_may_be_empty_and_so_may_what_was_not_given() -> None:
    require_values(PARAMS, given(password="", db="home", path="."))
    ctx = context()
    ctx.params["db"] = ""
    ctx.set_parameter_source("db", click.core.ParameterSource.DEFAULT)
    require_values(PARAMS, ctx)
