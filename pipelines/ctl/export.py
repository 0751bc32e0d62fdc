"""`shardkeeper export`: points of a backup as line protocol or CSV, without a server."""

from __future__ import annotations

from typing import IO

import click

from pipelines.ctl.export_format import CSV, Format, LineProtocol
from pipelines.ctl.export_output import output, output_folder
from pipelines.ctl.go_flags import GoFlags
from pipelines.ctl.output import TerminalOutput
from pipelines.ctl.point_flags import PointFlags, point_flags, require_undamaged
from pipelines.ctl.render import printable
from pipelines.ctl.store import open_repository
from resources.engine.events import Run
from resources.engine.export.export import Export, ExportReport
from resources.engine.export.tables import joined_names
from resources.errors import BackupPartial, UsageError, counted
from resources.points.strings import Strings
from resources.repository.repository import BackupRepository

MAX_NAMED = 5


@click.command(cls=GoFlags)
@point_flags
@click.option(
    "-format",
    "--format",
    "kind",
    type=click.Choice(("lp", "csv", "parquet")),
    default="lp",
    show_default=True,
    help="line protocol, as influx -import and /write take it; CSV, a column for each tag and "
    "field of -measurement; Parquet, one file for -measurement, else a folder with all",
)
@click.option(
    "-strings",
    "--strings",
    type=click.Choice(("str", "bytes")),
    default="str",
    show_default=True,
    help="with -format parquet: strings and tags as text, or as bytes where they are no UTF-8",
)
@click.option(
    "-out",
    "--out",
    "out",
    metavar="<file>",
    help="write into this new file or folder, which exists once it is complete (default: standard "
    "output)",
)
@click.argument("path", metavar="<path-to-backup-directory>")
def export(path: str, *, points: PointFlags, kind: str, strings: Strings, out: str | None) -> None:
    """Write points of a backup as line protocol, CSV or Parquet, without a server.

    They are the points that a restore of -db would bring back: merged over files, without deleted
    ones. Archives are unpacked one after the other into the backup directory's free space.
    """
    limits, wanted, as_of = points.limits(), points.filter(), points.as_of
    if not limits.database:
        raise UsageError("-db is missing", hint="shardkeeper list shows the databases of a backup")
    if kind == "csv" and wanted.measurement is None:
        raise UsageError(
            "-format csv needs -measurement: each has columns of its own",
            hint="shardkeeper inspect lists the measurements of a backup",
        )
    repository = open_repository(path)
    plan = Export.plan(repository, limits, wanted, as_of=as_of)
    run = Run(TerminalOutput())
    if kind == "parquet":
        report = _parquet(plan, repository, out, strings, run)
        _report(report)
        require_undamaged(report)
        return
    with output(out) as file:
        writer = _writer(kind, file, plan, repository, run)
        report = plan.read(repository, writer, run)
        writer.finish()
    _report(report)
    _require_all(report, writer)


def _report(report: ExportReport) -> None:
    click.echo(
        f"{counted(report.values, 'value')} from {counted(report.shards, 'shard')}, as of backup "
        f"{report.backup}",
        err=True,
    )


def _parquet(
    plan: Export, repository: BackupRepository, out: str | None, strings: Strings, run: Run
) -> ExportReport:
    from resources.engine.export.parquet import write_file, write_folder

    if out is None:
        raise UsageError(
            "-format parquet needs -out",
            hint="-out FILE.parquet with -measurement, -out FOLDER without it",
        )
    if plan.wanted.measurement is None:
        with output_folder(out) as folder:
            return write_folder(plan, repository, folder, strings, run)
    with output(out) as file:
        return write_file(plan, repository, file, strings, run)


def _writer(
    kind: str, file: IO[bytes], plan: Export, repository: BackupRepository, run: Run
) -> Format:
    if kind == "lp":
        return LineProtocol(file)
    return CSV(file, joined_names(plan, repository, run))


def _require_all(report: ExportReport, writer: Format) -> None:
    """Require that the output has everything that was requested.

    Raises:
        BackupPartial: it does not.
    """
    if writer.left_out:
        first = ", ".join(printable(name) for name in writer.left_out[:MAX_NAMED])
        raise BackupPartial(
            f"{counted(writer.n_left_out, 'value was', 'values were')} left out, since line "
            f"protocol cannot express their names or the values themselves: {first}",
            hint="-format csv writes them, and a restore brings them back",
        )
    require_undamaged(report)
