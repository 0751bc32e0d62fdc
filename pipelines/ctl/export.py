"""`shardkeeper export`: points of a backup as line protocol or CSV, without a server."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import click

from pipelines.ctl.export_format import CSV, Format, LineProtocol
from pipelines.ctl.go_flags import GoFlags
from pipelines.ctl.output import TerminalOutput
from pipelines.ctl.point_flags import filter_of, limits_of, point_flags, require_undamaged
from pipelines.ctl.render import printable
from pipelines.ctl.store import open_repository
from resources.engine.events import Run
from resources.engine.export.export import Export, ExportReport
from resources.engine.export.tables import joined_names
from resources.errors import BackupPartial, StoreFailed, UsageError, counted
from resources.repository.repository import BackupRepository

MAX_NAMED = 5


@click.command(cls=GoFlags)
@point_flags
@click.option(
    "-format",
    "--format",
    "kind",
    type=click.Choice(("lp", "csv")),
    default="lp",
    show_default=True,
    help="line protocol, as influx -import and /write take it; or CSV, a column for each tag and "
    "field of -measurement",
)
@click.option(
    "-out",
    "--out",
    "out",
    metavar="<file>",
    help="write into this new file, which exists once it is complete (default: standard output)",
)
@click.argument("path", metavar="<path-to-backup-directory>")
def export(path: str, *, kind: str, out: str | None, **flags: Any) -> None:
    """Write points of a backup as line protocol or CSV, without a server.

    They are the points that a restore of -db would bring back: merged over files, without deleted
    ones. Archives are unpacked one after the other into the backup directory's free space.
    """
    limits, wanted, as_of = limits_of(flags), filter_of(flags), flags.pop("as_of")
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
    with _output(out) as file:
        writer = _writer(kind, file, plan, repository, run)
        report = plan.read(repository, writer, run)
        writer.finish()
    click.echo(
        f"{counted(report.values, 'value')} from {counted(report.shards, 'shard')}, as of backup "
        f"{report.backup}",
        err=True,
    )
    _require_all(report, writer)


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


@contextmanager
def _output(out: str | None) -> Generator[IO[bytes]]:
    """Standard output, or a new file that gets its name at the end.

    Raises:
        UsageError: the file exists.
        StoreFailed: it cannot be written.
    """
    if out is None:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # Python would fail once more when it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise StoreFailed(
                "standard output was closed before everything was written",
                hint="-out FILE writes into a file",
            ) from None
        return
    path = Path(out)
    if path.exists() or path.is_symlink():
        raise UsageError(f"{out} exists already", hint="nothing is overwritten; name another file")
    draft = path.with_name(f".{path.name}.{os.getpid()}.pending")
    try:
        with open(draft, "xb", opener=_private) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        raise UsageError(f"{out} exists by now", hint="nothing was overwritten") from None
    except OSError as error:
        raise StoreFailed(
            f"{out}: {error.strerror or error}", hint="make room, or name another file with -out"
        ) from None
    finally:
        with suppress(OSError):
            draft.unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
