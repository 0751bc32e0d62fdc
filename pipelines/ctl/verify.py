"""`shardkeeper verify`: read stored backups and say what is wrong with them."""

from __future__ import annotations

from collections.abc import Collection

import click

from pipelines.ctl.go_flags import GoFlags
from pipelines.ctl.render import printable
from pipelines.ctl.store import open_repository
from pipelines.ctl.talk import Talk
from pipelines.ctl.verify_render import Asked, render_verify, verify_json
from resources.engine import verify as engine
from resources.engine.events import Event
from resources.engine.sampling import Sample, today
from resources.engine.verify import VerifyReport
from resources.errors import BackupIncomplete, UsageError


@click.command(cls=GoFlags)
@click.option(
    "-sample",
    "--sample",
    metavar="<n|n%>",
    help="read so many of the archives, or such a share of them, others each day until all had "
    "their turn; manifests, meta files, receipts and sizes are always looked at",
)
@click.option(
    "-day",
    "--day",
    type=click.IntRange(min=0),
    metavar="<number>",
    help="with -sample: which day's part to read (default: today's, in days since 1970)",
)
@click.option(
    "-json", "--json", "as_json", is_flag=True, help="print one JSON object (docs/verify.md)"
)
@click.argument("path", metavar="<path-to-backup-directory>")
def verify(path: str, sample: str | None, day: int | None, as_json: bool) -> None:
    """Read everything in a directory of backups, and say what it still gives back.

    Every manifest, meta file, archive and receipt is read, every block of every TSM file checked,
    and what is there held against what the manifests list. Works on directories that influxd-ctl,
    influxd backup -portable or we wrote. No server is asked.
    """
    asked = _asked(sample, day)
    report = engine.verify(open_repository(path), choose=_choice(asked), tell=Talk(_no_line))
    if as_json:
        click.echo(verify_json(report, asked, path, None))
    else:
        click.echo(printable(render_verify(report, asked)))
    _check_clean(report, path)


def _asked(sample: str | None, day: int | None) -> Asked:
    if sample is None:
        if day is not None:
            raise UsageError("-day goes with -sample")
        return Asked(None, "", 0)
    return Asked(Sample.parse(sample), sample, today() if day is None else day)


def _choice(asked: Asked) -> engine.Choice | None:
    chosen = asked.sample
    if chosen is None:
        return None

    def choose(names: Collection[str]) -> Collection[str]:
        return chosen.choose(names, asked.day)

    return choose


def _no_line(_event: Event) -> None:
    return None


def _check_clean(report: VerifyReport, path: str) -> None:
    if report.problems:
        raise BackupIncomplete(
            f"{len(report.problems)} problems in {path}",
            hint="restore -as-of TIME reads an earlier state; verify -repair, with the server's "
            "-host or -bind, copies again what is damaged here",
        )
