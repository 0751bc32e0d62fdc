"""`shardkeeper merge`: merge a backup's points into a live database."""

from __future__ import annotations

from datetime import datetime

import click
from msgspec import Struct

from pipelines.ctl import render
from pipelines.ctl.connection_flags import ConnectionFlags, connection_flags
from pipelines.ctl.go_flags import GoFlags
from pipelines.ctl.merge_render import merge_line, merged, render_merge_plan
from pipelines.ctl.output import TerminalOutput
from pipelines.ctl.params import Instant, Integer, nanoseconds
from pipelines.ctl.store import open_repository
from pipelines.ctl.typed_flags import takes
from resources.engine.events import Run
from resources.engine.merge import merge_run as engine
from resources.engine.merge.abandon import abandon_merge
from resources.engine.merge.merge_plan import MAX_POINTS, MergeOptions
from resources.errors import UsageError
from resources.model import ShardID
from resources.repository.formats.manifest import Limits
from resources.repository.storage.places import is_container, is_object, split


class MergeFlags(Struct, frozen=True, kw_only=True):
    """What to merge, and into what, as it was given."""

    path: str
    full: bool
    db: str | None
    rp: str | None
    shard: int | None
    newdb: str | None
    newrp: str | None
    start: datetime | None
    end: datetime | None
    as_of: datetime | None
    skip_expired: bool
    most_points: int

    def options(self) -> tuple[str, MergeOptions]:
        """The directory of backups, and the options as the engine takes them.

        Raises:
            UsageError: the path does not fit `-full`.
        """
        directory, manifest = _where(self.path, full=self.full)
        shard_id = ShardID(self.shard) if self.shard else None
        return directory, MergeOptions(
            limits=Limits(self.db or "", self.rp or "", shard_id),
            into_database=self.newdb or "",
            into_policy=self.newrp or "",
            start_ns=nanoseconds(self.start),
            end_ns=nanoseconds(self.end),
            as_of=self.as_of,
            manifest=manifest,
            skip_expired=self.skip_expired,
            most_points=self.most_points,
        )


@click.command(cls=GoFlags)
@connection_flags
@click.option("-db", "--db", metavar="<string>", help="the name of the database in the backup")
@click.option(
    "-newdb",
    "--newdb",
    metavar="<string>",
    help="the live database to merge into (default: the one of the same name)",
)
@click.option(
    "-rp", "--rp", metavar="<string>", help="the name of the single retention policy to merge"
)
@click.option(
    "-newrp",
    "--newrp",
    metavar="<string>",
    help="the live policy to merge into (must specify with -rp)",
)
@click.option(
    "-shard",
    "--shard",
    type=Integer(min=0, max=2**64 - 1),
    metavar="<unit>",
    help="the ID, in the backup, of the single shard to merge",
)
@click.option(
    "-start", "--start", type=Instant(), metavar="<time>", help="only points from this time on"
)
@click.option(
    "-end", "--end", type=Instant(), metavar="<time>", help="only points before this time"
)
@click.option(
    "-skip-expired",
    "--skip-expired",
    is_flag=True,
    help="leave out shards that are older than the live policy keeps points",
)
@click.option(
    "-points",
    "--points",
    "most_points",
    type=Integer(min=1),
    default=MAX_POINTS,
    show_default=True,
    metavar="<n>",
    help="the limit of points that one statement copies",
)
@click.option(
    "-as-of",
    "--as-of",
    type=Instant(),
    metavar="<time>",
    help="merge the state of that time: backups that began later are not read",
)
@click.option(
    "-full", "--full", is_flag=True, help="merge one full backup; the path is its manifest"
)
@click.option(
    "-plan", "--plan", "only_plan", is_flag=True, help="show what would be done, and change nothing"
)
@click.option(
    "-abandon",
    "--abandon",
    is_flag=True,
    help="drop the temporary database of an unfinished merge; points that it copied stay",
)
@click.argument("path", metavar="<path-to-backup-directory|path-to-manifest-file>")
@takes(flags=MergeFlags)
def merge(
    connection: ConnectionFlags,
    flags: MergeFlags,
    *,
    abandon: bool,
    only_plan: bool,
) -> None:
    """Merge a database of a backup into the live one.

    The merge restores it beside the live database under a temporary name, copies it in time
    slices, verifies every point, and drops it. If a merge is interrupted, the same command
    continues it. Where both have a value for the same series, field and time, the backup's stays.
    """
    if abandon and only_plan:
        raise UsageError(
            "-abandon drops the temporary database, and -plan is to change nothing",
            hint="give one of them",
        )
    directory, options = flags.options()
    if not abandon:
        options.check()
    repository = open_repository(directory)
    target = connection.source()
    emit = TerminalOutput(merge_line)
    if abandon:
        abandon_merge(target, repository, Run(emit))
        return
    if only_plan:
        plan = engine.prepare_merge(target, repository, options)
        click.echo(render_merge_plan(plan, target.address))
        return
    report = engine.merge(target, repository, options, Run(emit))
    click.echo(render.printable(merged(report)))


def _where(path: str, *, full: bool) -> tuple[str, str]:
    """The directory, and with `-full` the name of the manifest."""
    if full:
        if is_container(path):
            raise UsageError(
                f"{path} is a directory; -full takes the path of one manifest",
                hint="leave -full out to merge the newest state of a directory",
            )
        return split(path)
    if is_object(path):
        raise UsageError(
            f"{path} is a file; merge takes a directory",
            hint="to merge one full backup from its manifest, add -full",
        )
    return path, ""
