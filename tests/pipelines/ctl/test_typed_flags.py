"""Commands get their flags as values whose types are compared with what click gives."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import UTC, datetime

import click
import pytest
from click.testing import CliRunner
from msgspec import Struct, ValidationError

from pipelines.ctl.main import original_tree, tree
from pipelines.ctl.params import Instant
from pipelines.ctl.typed_flags import taken, takes


class Flags(Struct, frozen=True, kw_only=True):
    shard: int | None
    start: datetime | None
    tags: tuple[str, ...]


GIVEN = {"shard": 3, "start": datetime(2026, 1, 1, tzinfo=UTC), "tags": ("a=b",)}


def test_a_value_takes_its_flags_and_leaves_the_others() -> None:
    given = {**GIVEN, "path": "."}
    assert taken(Flags, given) == Flags(**GIVEN)
    assert given == {"path": "."}


def test_a_flag_that_the_command_does_not_have_is_an_error() -> None:
    with pytest.raises(KeyError, match="tags"):
        taken(Flags, {"shard": None, "start": None})


@pytest.mark.parametrize("wrong", [{"shard": "3"}, {"start": 3}, {"tags": "a=b"}, {"tags": None}])
def test_a_flag_of_another_type_is_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        taken(Flags, {**GIVEN, **wrong})


def test_a_command_gets_the_values_beside_its_other_flags() -> None:
    found: list[object] = []

    @click.command
    @click.option("-shard", "shard", type=int)
    @click.option("-start", "start", type=Instant())
    @click.option("-tag", "tags", multiple=True)
    @click.option("-json", "as_json", is_flag=True)
    @takes(flags=Flags)
    def command(flags: Flags, as_json: bool) -> None:
        """What it is for."""
        found.extend([flags, as_json])

    done = CliRunner().invoke(command, ["-shard", "3", "-tag", "a=b", "-json"])
    assert done.exit_code == 0, done.output
    assert found == [Flags(shard=3, start=None, tags=("a=b",)), True]
    assert command.help == "What it is for."


def commands(group: click.Command) -> Iterator[click.Command]:
    if isinstance(group, click.Group):
        with click.Context(group) as ctx:
            for name in group.list_commands(ctx):
                found = group.get_command(ctx, name)
                assert found is not None
                yield from commands(found)
    else:
        yield group


def test_no_command_takes_keywords_of_any_name() -> None:
    loose: list[str] = []
    n_commands = 0
    for command in (*commands(tree), *commands(original_tree)):
        n_commands += 1
        assert command.callback is not None
        parameters = inspect.signature(inspect.unwrap(command.callback)).parameters.values()
        if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
            loose.append(str(command.name))
    assert loose == []
    assert n_commands >= 20
