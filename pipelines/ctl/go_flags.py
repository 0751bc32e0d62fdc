"""Commands that parse flags as Go's `flag` package does, and show the original's help.

`-full=true` and `-full=false` set and clear a flag. Under `influxd-ctl` the help has the original's
layout and only its flags; it accepts ours too, and `shardkeeper help` lists all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click
from click.core import ParameterSource

from pipelines.ctl.influxd_flags import UnknownFlag, advice, translated
from pipelines.ctl.original_help import command_help, original_help, takes_text

TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))
ORIGINAL_NAME = "influxd-ctl"
MAY_BE_EMPTY = "password"


class GoFlags(click.Command):
    """A command or a group with Go's flags."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.find_root().info_name != ORIGINAL_NAME:
            args = translated(str(ctx.info_name), args)
        left = super().parse_args(ctx, spelled_out(self.get_params(ctx), args, ctx))
        require_values(self.get_params(ctx), ctx)
        return left

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        root = ctx.find_root()
        if root.info_name != ORIGINAL_NAME:
            super().format_help(ctx, formatter)
        elif ctx is root:
            formatter.write(original_help())
        elif (text := command_help(str(ctx.info_name))) is not None:
            formatter.write(text)
        else:
            super().format_help(ctx, formatter)


def require_values(params: Iterable[click.Parameter], ctx: click.Context) -> None:
    """Require non-empty names and paths: an unset variable would mean everything, or here.

    Raises:
        click.BadParameter: an argument, or the value of a flag, is empty.
    """
    for param in params:
        value = ctx.params.get(str(param.name))
        given = value if isinstance(value, tuple) else (value,)
        emitted = ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
        if emitted and "" in given and param.name != MAY_BE_EMPTY:
            is_path = isinstance(param, click.Argument)
            step = "name the directory, . for this one" if is_path else "give a value, or no flag"
            what = f"it is empty\n  next: {step}; is a variable not set?"
            raise click.BadParameter(what, ctx, param)


def _may_be_empty(options: Iterable[click.Option], ctx: click.Context) -> frozenset[str]:
    """Flags of which an empty value means that there is none: the original's, under its name."""
    if ctx.find_root().info_name != ORIGINAL_NAME:
        return frozenset()
    command = "" if ctx.parent is None else str(ctx.info_name)
    texts = [option for option in options if not isinstance(option.type, click.Choice)]
    names = (name for option in texts for name in option.opts)
    return frozenset(name for name in names if takes_text(command, name.lstrip("-")))


def spelled_out(
    params: Iterable[click.Parameter], args: Sequence[str], ctx: click.Context
) -> list[str]:
    """Words in which no flag has a value: `-full=true` becomes `-full`, `-full=false` nothing.

    Nor does the original's flag of a text that is empty become anything, under its name.

    Raises:
        UnknownFlag: a word begins with a dash and is not one of the command's flags.
        click.BadParameter: the value is not a boolean.
    """
    options = [param for param in params if isinstance(param, click.Option)]
    flags = {name: option for option in options if option.is_flag for name in option.opts}
    taking = {name for option in options if not option.is_flag for name in option.opts}
    optional = _may_be_empty(options, ctx)
    words: list[str] = []
    left = iter(args)
    for word in left:
        name, equals, value = word.partition("=")
        if word == "--" or not (word.startswith("-") or ctx.allow_interspersed_args):
            return [*words, word, *left]
        if word.startswith("-") and word != "-" and name not in flags and name not in taking:
            raise UnknownFlag(name, advice(str(ctx.info_name), name), ctx)
        if name in optional:
            given = (
                [word]
                if equals
                else [word, *(one for one in [next(left, None)] if one is not None)]
            )
            words += [] if (value if equals else given[-1]) == "" else given
            continue
        if not equals or name not in flags or value in TRUE:
            words.append(name if equals and name in flags else word)
        elif value not in FALSE:
            raise click.BadParameter(f"invalid boolean value {value!a}", ctx=ctx, param=flags[name])
        if word in taking:
            words.extend(value for value in [next(left, None)] if value is not None)
    return words
