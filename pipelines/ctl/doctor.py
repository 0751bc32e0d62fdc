"""`shardkeeper doctor`: check whether backups can be made from here."""

from __future__ import annotations

import json

import click
from msgspec import to_builtins

from pipelines.ctl.connection_flags import ConnectionFlags, connection_flags
from pipelines.ctl.go_flags import GoFlags
from pipelines.ctl.render import printable
from resources.engine.doctor.examine import examine
from resources.engine.doctor.finding import Finding, passed
from resources.errors import ExitCode


@click.command(cls=GoFlags)
@connection_flags
@click.option(
    "-json", "--json", "as_json", is_flag=True, help="print one JSON object (docs/reach.md)"
)
@click.argument("path", required=False, default="", metavar="[<path-to-backup-directory>]")
@click.pass_context
def doctor(ctx: click.Context, connection: ConnectionFlags, path: str, as_json: bool) -> None:
    """Check a server or cluster, and a directory, for everything that backups need.

    Prints one line for each question, with the next step where something is wrong. Only reads
    from the server; in the directory it creates and deletes a small file. Ends with 0 if backups
    can be made, else with 1.
    """
    address = connection.address_with_secrets()
    found = examine(address, path, emit=_ignore if as_json else _print)
    if as_json:
        click.echo(json.dumps({"ok": passed(found), "findings": to_builtins(found)}, indent=1))
    if not passed(found):
        ctx.exit(ExitCode.FAILED)


def _print(finding: Finding) -> None:
    click.echo(printable(str(finding)))


def _ignore(_finding: Finding) -> None:
    pass
