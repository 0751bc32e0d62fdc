"""The commands of `influxd-ctl` (the original's) and `shardkeeper` (and ours); no Dagster."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Any, NamedTuple

import click

from pipelines.ctl.connection_flags import ConnectionFlags, connection_flags
from pipelines.ctl.go_flags import GoFlags
from pipelines.ctl.influxd_flags import UnknownFlag
from resources.errors import ExitCode, ShardkeeperError, UsageError
from resources.runtime.failpoints import FAILPOINTS, check_failpoint_request
from resources.runtime.interrupts import SIGNALS, raise_again, say_what_goes_on
from resources.version import VERSION

HELP = {"help_option_names": ["-h", "-help", "--help"], "max_content_width": 100}


class Later(NamedTuple):
    """A command whose module is imported on use: most of a short run is imports."""

    where: str
    """`module:attribute`."""
    summary: str
    """The first sentence of its help, for the list of commands."""


ORIGINAL: Mapping[str, Later] = {
    "backup": Later(
        "pipelines.ctl.backup:backup", "Back up a server or a cluster into an existing directory."
    ),
    "restore": Later(
        "pipelines.ctl.restore:restore",
        "Restore from a directory of incremental backups, or with -full from one manifest.",
    ),
    "show": Later("pipelines.ctl.show:show", "List the data nodes and meta nodes of a cluster."),
    "show-shards": Later(
        "pipelines.ctl.show:show_shards",
        "List the shards of a cluster and their owners, or the shards of a single server.",
    ),
}
OURS: Mapping[str, Later] = {
    **ORIGINAL,
    "config": Later(
        "pipelines.ctl.config:config", "Check shardkeeper.yaml, the file that Dagster reads."
    ),
    "doctor": Later(
        "pipelines.ctl.doctor:doctor",
        "Check a server or cluster, and a directory, for everything that backups need.",
    ),
    "export": Later(
        "pipelines.ctl.export:export",
        "Write points of a backup as line protocol, CSV or Parquet, without a server.",
    ),
    "inspect": Later(
        "pipelines.ctl.inspect:inspect",
        "List the measurements of a backup: series, values, times, fields and their types.",
    ),
    "list": Later(
        "pipelines.ctl.list:list_",
        "List the backups in a directory, and what a restore would read of them.",
    ),
    "merge": Later("pipelines.ctl.merge:merge", "Merge a database of a backup into the live one."),
    "query": Later("pipelines.ctl.query:query", "Print points of a backup, without a server."),
    "repair-replica": Later(
        "pipelines.ctl.repair_replica:repair",
        "Fill owners that lost a shard from the owner that has all its points.",
    ),
    "verify": Later(
        "pipelines.ctl.verify:verify",
        "Read everything in a directory of backups, and report what can still be restored.",
    ),
}


class Ctl(GoFlags, click.Group):
    """A group that turns our errors into two lines and an exit status, for all commands."""

    later: Mapping[str, Later]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self.later})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None and cmd_name in self.later:
            module, _, attribute = self.later[cmd_name].where.partition(":")
            found = getattr(import_module(module), attribute)
        # Not earlier: an import may swallow an exception, and the signal would be lost with it.
        sys.unraisablehook = _hear_again
        for number in SIGNALS:  # nohup ignores them, and a shell does for background jobs
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _stop)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As in click, but no module of a command is imported for its one line."""
        names = self.list_commands(ctx)
        width = formatter.width - 6 - max(map(len, names))
        found = ((name, self._listed(name)) for name in names)
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, one.get_short_help_str(width)) for name, one in found if not one.hidden]
            )

    def _listed(self, name: str) -> click.Command:
        later = self.later.get(name)
        return self.commands[name] if later is None else click.Command(name, help=later.summary)

    def main(self, *args: Any, **extra: Any) -> Any:
        """As in click, but an interrupt before a command has begun has the same status."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except click.ClickException as error:
            self.complain(error)
            sys.exit(error.exit_code)
        except click.Abort:
            _say("interrupted before anything was done")
            sys.exit(ExitCode.INTERRUPTED)
        sys.exit(code if isinstance(code, int) else ExitCode.DONE)

    def complain(self, error: click.ClickException) -> None:
        """Print what is wrong with a command line."""
        error.show()

    def invoke(self, ctx: click.Context) -> Any:
        try:
            check_failpoint_request()
            return super().invoke(ctx)
        except ShardkeeperError as error:
            name = ctx.invoked_subcommand or ctx.info_name
            _say(f"{name}: operation exited with error: {error}")
            if error.hint:
                _say(f"  next: {error.hint}")
            ctx.exit(error.exit_code)
        except (KeyboardInterrupt, RuntimeError) as interrupt:
            if not isinstance(interrupt, KeyboardInterrupt) and not _hides_interrupt(interrupt):
                raise
            # Only verified facts: each clean-up adds a note of what it found or left.
            _say("; ".join(("interrupted", *getattr(interrupt, "__notes__", ()))))
            ctx.exit(ExitCode.INTERRUPTED)


@click.command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND]")
@click.pass_context
def help_(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show all commands, or the flags of a command."""
    named = ctx.parent
    assert named is not None  # noqa: S101
    program = named.info_name
    for at, word in enumerate(words, 1):
        group = named.command
        found = group.get_command(named, word) if isinstance(group, click.Group) else None
        if found is None:
            raise UsageError(
                f"{' '.join(words[:at])!a} is not a command", hint=f"{program} help lists them"
            )
        named = click.Context(found, info_name=word, parent=named)
    click.echo(named.command.get_help(named))


@click.command("failpoints", hidden=True)
def failpoints() -> None:
    """List where SHARDKEEPER_FAILPOINT=name[:n] kills a run at its n-th pass, for tests."""
    for name, what in FAILPOINTS.items():
        click.echo(f"{name:<24}{what}")


_stopped = False


def _hides_interrupt(error: RuntimeError) -> bool:
    """Whether a lock could not be released because an interrupt came amid waiting for it.

    `Condition.wait` of Python 3.11 takes its lock again at the end. An interrupt in that moment
    leaves a block whose lock is not held, and the complaint about that takes its place.
    """
    return isinstance(error.__context__, KeyboardInterrupt) and "lock" in str(error)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    """The first signal ends the work; later signals do not end the clean-up."""
    global _stopped
    if _stopped:
        say_what_goes_on()
        return
    _stopped = True
    raise KeyboardInterrupt


def _hear_again(dropped: sys.UnraisableHookArgs) -> None:
    """Raise a signal again that arrived in a finalizer, where it ends nothing and would be lost."""
    if not isinstance(dropped.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)
        return
    raise_again(_start_again)


def _start_again() -> None:
    global _stopped
    _stopped = False


def _say(line: str) -> None:
    """Print a line; after a hang-up nothing can be printed."""
    with suppress(OSError):
        click.echo(line, err=True)


class Tree(Ctl):
    later = OURS


class OriginalCtl(Ctl):
    """Behaves like the original's command: its help, and its messages for a wrong command line."""

    later = ORIGINAL

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["help"])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None:
            from pipelines.ctl.render import printable  # most runs need not load it so early

            raise click.ClickException(
                f"unknown command \"{printable(args[0])}\"\nRun 'influxd-ctl help' for usage"
            )
        return super().resolve_command(ctx, args)

    def complain(self, error: click.ClickException) -> None:
        if isinstance(error, click.NoSuchOption):  # Go's package flag prints the usage after it
            click.echo(f"flag provided but not defined: -{error.option_name.lstrip('-')}", err=True)
            if isinstance(error, UnknownFlag) and error.advice:
                click.echo(f"  next: {error.advice}", err=True)
            if error.ctx is not None:
                click.echo(error.ctx.get_help(), err=True)
        elif isinstance(error, click.UsageError) and error.ctx is not None:
            name = error.ctx.info_name
            click.echo(f"{name}: {error.format_message()}", err=True)
            click.echo(f"Run '{error.ctx.command_path} -h' for usage", err=True)
        else:
            click.echo(error.message, err=True)


@click.group(cls=Tree, name="shardkeeper", context_settings=HELP)
@connection_flags
@click.version_option(VERSION, "-version", "--version")
@click.pass_context
def tree(ctx: click.Context, connection: ConnectionFlags) -> None:
    """Back up and restore InfluxDB 1.x, with every byte verified."""
    ctx.obj = connection


for command in (failpoints, help_):
    tree.add_command(command)


@click.group(cls=OriginalCtl, name="influxd-ctl", context_settings=HELP)
@connection_flags
@click.version_option(VERSION, "-version", "--version")
@click.pass_context
def original_tree(ctx: click.Context, connection: ConnectionFlags) -> None:
    """Back up and restore InfluxDB, with the syntax of InfluxDB Enterprise's influxd-ctl."""
    ctx.obj = connection


original_tree.add_command(help_)


def _in_utf8() -> None:
    """Print UTF-8 as the original does: a name that the locale does not have must not end a backup.

    Paths that are not UTF-8 are printed as the same bytes. Standard error needs no change.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")


def shardkeeper() -> None:
    """Run `shardkeeper`; exit statuses as in `ExitCode`."""
    _in_utf8()
    tree(prog_name="shardkeeper")


def influxd_ctl() -> None:
    """Run `influxd-ctl`; exit statuses are the original's: 0 and 1, and 130 when interrupted."""
    _in_utf8()
    try:
        original_tree(prog_name="influxd-ctl")
    except SystemExit as done:
        if done.code not in (0, None, ExitCode.INTERRUPTED):
            sys.exit(ExitCode.FAILED)
        raise
