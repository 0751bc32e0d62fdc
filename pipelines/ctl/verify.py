"""`shardkeeper verify`: read stored backups and say what is wrong with them."""

from __future__ import annotations

import click

from pipelines.ctl.go_flags import GoFlags
from pipelines.ctl.render import printable
from pipelines.ctl.store import open_repository
from resources.engine import verify as engine
from resources.errors import BackupIncomplete


@click.command(cls=GoFlags)
@click.argument("path", metavar="<path-to-backup-directory>")
def verify(path: str) -> None:
    """Read every manifest, meta file and archive in a directory, every block of every TSM file.

    Works on directories that influxd-ctl, influxd backup -portable or we wrote.
    """
    report = engine.verify(open_repository(path))
    for problem in report.problems:
        click.echo(printable(f"problem: {problem}"))
    click.echo(
        f"{report.manifests} backups, {report.archives} archives, {report.size_bytes} bytes read: "
        f"{len(report.problems)} problems"
    )
    if report.problems:
        raise BackupIncomplete(
            f"{len(report.problems)} problems in {path}",
            hint="restore -as-of TIME reads earlier backups; a new backup copies again what is "
            "missing here",
        )
