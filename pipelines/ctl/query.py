"""`shardkeeper query`: rows of a backup on the terminal or for another program, also by SQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import click

from pipelines.ctl.export_format import LineProtocol
from pipelines.ctl.export_output import output
from pipelines.ctl.go_flags import GoFlags
from pipelines.ctl.output import TerminalOutput
from pipelines.ctl.params import Integer
from pipelines.ctl.point_flags import PointFlags, point_flags, require_undamaged
from pipelines.ctl.row_format import FORMATS, names_of, pages_of, write_pages
from pipelines.ctl.store import open_repository
from resources.engine.events import Run
from resources.engine.export.export import Export, ExportReport
from resources.engine.export.policies import policy_of
from resources.engine.export.tables import joined_names, read_batches
from resources.errors import BackupPartial, UsageError, counted
from resources.model import ShardPlace
from resources.protocol.meta import decode_metastore
from resources.repository.formats.manifest import Limits
from resources.repository.repository import BackupRepository
from resources.tsm.merge import SeriesPoints

DEFAULT_ROWS = 1000
NOTHING = (
    "no archive has such points; shardkeeper inspect lists the measurements of a backup, and names "
    "are case-sensitive"
)


@click.command(cls=GoFlags)
@point_flags
@click.option(
    "-sql",
    "--sql",
    "statement",
    metavar="<statement>",
    help="SQL in which each measurement of -db is a table; needs shardkeeper[query]",
)
@click.option(
    "-format",
    "--format",
    "kind",
    type=click.Choice(("table", "csv", "json", "lp")),
    default="table",
    show_default=True,
    help="a table, CSV, one JSON object, or line protocol",
)
@click.option(
    "-limit",
    "--limit",
    type=Integer(min=0),
    metavar="<rows>",
    help=f"the most rows, 0 for all (default: {DEFAULT_ROWS}; what that leaves out is status 3)",
)
@click.argument("path", metavar="<path-to-backup-directory>")
def query(
    path: str, *, points: PointFlags, statement: str | None, kind: str, limit: int | None
) -> None:
    """Print points of a backup, without a server.

    They are the points that a restore would bring back, of the default retention policy unless -rp
    names another. Rows come shard by shard, series by series, and then by time.
    """
    limits, wanted, as_of = points.limits(), points.filter(), points.as_of
    _require_clear(limits, wanted.measurement, statement, kind)
    repository = open_repository(path)
    state = repository.current(as_of=as_of)
    metastore = decode_metastore(repository.read_meta(state))
    policy = policy_of(metastore, limits.database, limits.policy)
    limits = Limits(limits.database, policy, limits.shard_id)
    plan = Export.of(repository, state, limits, wanted)
    run = Run(TerminalOutput())
    most = DEFAULT_ROWS if limit is None else limit
    with output(None, when_closed="-limit N prints fewer rows") as file:
        if statement is not None:
            from pipelines.ctl.query_sql import print_result

            report, complete = print_result(plan, repository, statement, FORMATS[kind], file, most)
        elif kind == "lp":
            report, complete = _print_lines(plan, repository, file, most, run)
        else:
            report, complete = _print_rows(plan, repository, kind, file, most, run)
    if statement is None and not report.values:
        click.echo(NOTHING, err=True)
    _explain(complete, most, report, asked=limit is not None)


def _require_clear(
    limits: Limits, measurement: bytes | None, statement: str | None, kind: str
) -> None:
    if not limits.database:
        raise UsageError("-db is missing", hint="shardkeeper list shows the databases of a backup")
    if (measurement is None) is (statement is None):
        raise UsageError(
            "name either -measurement or -sql",
            hint="shardkeeper inspect lists the measurements of a backup",
        )
    if statement is not None and kind == "lp":
        raise UsageError("-format lp is for points, and -sql gives rows", hint="-format csv")


def _print_rows(
    plan: Export, repository: BackupRepository, kind: str, file: IO[bytes], most: int, run: Run
) -> tuple[ExportReport, bool]:
    columns = joined_names(plan, repository, run).table()
    writer = FORMATS[kind](file, names_of(columns))
    report = plan.report()
    batches = read_batches(plan, repository, columns, report, run)
    complete = write_pages(pages_of(batches), writer, most)
    return report, complete


def _print_lines(
    plan: Export, repository: BackupRepository, file: IO[bytes], most: int, run: Run
) -> tuple[ExportReport, bool]:
    writer = LineProtocol(file)
    report = plan.report()
    left, complete = most, True

    def limited(place: ShardPlace, found: Iterator[list[SeriesPoints]]) -> Iterator[SeriesPoints]:
        nonlocal left, complete
        for one in (one for fields in found for one in fields):
            if most and len(one.times) > left:
                complete = False
                if left:
                    yield SeriesPoints(one.key, one.type, one.times[:left], one.values[:left])
                return
            left -= len(one.times)
            yield one

    for place, found in plan.series(repository, report, run):
        writer(place, limited(place, found))
        if not complete:
            break
    if writer.n_left_out:
        raise BackupPartial(
            f"{counted(writer.n_left_out, 'value was', 'values were')} left out, since line "
            "protocol cannot express their names or the values themselves",
            hint="-format csv prints them",
        )
    return report, complete


def _explain(complete: bool, most: int, report: ExportReport, *, asked: bool) -> None:
    """Name what was left out.

    Raises:
        BackupPartial: rows or parts were left out that the user did not exclude.
    """
    if not complete:
        what = f"the first {counted(most, 'row')} as of backup {report.backup}; more were left out"
        if not asked:
            raise BackupPartial(what, hint="-limit 0 prints all, -limit N as many as you want")
        click.echo(what, err=True)
    require_undamaged(report)
