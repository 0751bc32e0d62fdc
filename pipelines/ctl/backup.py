"""`backup`: copy what changed into a directory."""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Literal

import click
from msgspec import Struct

from pipelines.ctl import render
from pipelines.ctl.connection_flags import ConnectionFlags, connection_flags
from pipelines.ctl.estimate import render_estimate
from pipelines.ctl.go_flags import GoFlags
from pipelines.ctl.output import TerminalOutput
from pipelines.ctl.params import Duration, Instant, Integer, nanoseconds
from pipelines.ctl.store import open_repository
from pipelines.ctl.typed_flags import takes
from resources.engine.backup.batch_plan import seconds_per_byte
from resources.engine.backup.plan import plan_backup
from resources.engine.backup.run import back_up
from resources.engine.events import Run
from resources.engine.options import BackupOptions
from resources.errors import UsageError
from resources.model import ShardID
from resources.repository.archives.gzip_stream import Level
from resources.repository.formats.manifest import Limits

PROFILE_FILE = "backup.prof"


class BackupFlags(Struct, frozen=True, kw_only=True):
    """The flags that say what to back up and how, as they were given."""

    db: str | None
    rp: str | None
    shard: int | None
    full: bool
    strategy: Literal["full", "incremental", "only-meta"]
    start: datetime | None
    end: datetime | None
    preferred: str | None
    verify: Literal["inflated", "full", "structure"]
    read_twice_mib: int
    parallel: int
    workers: int | None
    staleness_ns: int
    require_complete: bool
    damaged: Literal["keep", "refuse", "accept"]
    new_era: bool
    level: Level

    def options(self) -> BackupOptions:
        """As the engine takes them.

        Raises:
            UsageError: they contradict each other.
        """
        if self.full and self.strategy == "only-meta":
            raise UsageError(
                "-full copies every shard, and -strategy only-meta none",
                hint="give one of them",
            )
        shard_id = None if self.shard is None else ShardID(self.shard)
        return BackupOptions(
            limits=Limits(self.db or "", self.rp or "", shard_id),
            full=self.full or self.strategy == "full",
            only_meta=self.strategy == "only-meta",
            start_ns=nanoseconds(self.start),
            end_ns=nanoseconds(self.end),
            level=self.level,
            checked="structure" if self.verify == "structure" else "full",
            proven=self.verify == "inflated",
            read_twice_bytes=self.read_twice_mib << 20,
            prefer=self.preferred or "",
            staleness_ns=self.staleness_ns,
            damaged=self.damaged,
            new_era=self.new_era,
            require_complete=self.require_complete,
            parallel=self.parallel,
            workers=self.workers,
        )


@click.command(cls=GoFlags)
@connection_flags
@click.option("-db", "--db", metavar="<string>", help="the name of the single database to back up")
@click.option(
    "-rp",
    "--rp",
    metavar="<string>",
    help="the name of the single retention policy to back up (must specify -db with -rp)",
)
@click.option(
    "-shard",
    "--shard",
    type=Integer(min=0, max=2**64 - 1),
    metavar="<unit>",
    help="the ID of the single shard to back up",
)
@click.option("-full", "--full", is_flag=True, help="perform a full backup")
@click.option(
    "-strategy",
    "--strategy",
    type=click.Choice(["full", "incremental", "only-meta"]),
    default="incremental",
    show_default=True,
    help="copy every shard, those that changed, or the metadata only",
)
@click.option(
    "-start",
    "--start",
    type=Instant(),
    metavar="<time>",
    help="only shards with points from this time on; shards are copied whole",
)
@click.option(
    "-end",
    "--end",
    type=Instant(),
    metavar="<time>",
    help="only shards with points before this time",
)
@click.option(
    "-estimate",
    "--estimate",
    is_flag=True,
    help="show which shards would be copied, their size and the likely duration; copy nothing",
)
@click.option(
    "-from",
    "--from",
    "preferred",
    metavar="<TCP-address>",
    help="the data node TCP address to prefer when backing up; a single server has one",
)
@click.option(
    "-verify",
    "--verify",
    "verify",
    type=click.Choice(["inflated", "full", "structure"]),
    default="full",
    show_default=True,
    help="full: check every block of every TSM file; structure: check headers and indexes only; "
    "inflated: check every block, and inflate again what was compressed",
)
@click.option(
    "-read-twice",
    "--read-twice",
    "read_twice_mib",
    type=Integer(min=0),
    default=BackupOptions().read_twice_bytes >> 20,
    show_default=True,
    metavar="<MiB>",
    help="read new files of a shard again and compare, up to this size per shard; only that finds "
    "a series name that was changed on the way (0: never)",
)
@click.option(
    "-parallel",
    "--parallel",
    type=Integer(min=1, max=64),
    default=BackupOptions().parallel,
    show_default=True,
    metavar="<int>",
    help="shards to copy at once; more are faster if both ends have spare cores",
)
@click.option(
    "-workers",
    "--workers",
    type=Integer(min=1, max=64),
    envvar="SHARDKEEPER_WORKERS",
    metavar="<int>",
    help="processes that copy; they share the connections of -parallel, so there are never more of "
    "them than that (default: by cores, and by what there is to copy; 1: this process alone)",
)
@click.option(
    "-staleness-threshold",
    "--staleness-threshold",
    "staleness_ns",
    type=Duration(),
    default="0s",
    show_default=True,
    metavar="<duration>",
    help="for a cluster: skip shards whose archive is at most this much older than their last "
    "change; the points written since are then not backed up yet",
)
@click.option(
    "-require-complete",
    "--require-complete",
    "require_complete",
    is_flag=True,
    help="a shard fails if its node does not report whether the archive holds everything that was "
    "acknowledged; otherwise a warning and the manifest say so",
)
@click.option(
    "-damaged",
    "--damaged",
    type=click.Choice(["keep", "refuse", "accept"]),
    default="keep",
    show_default=True,
    help="keep: save a shard with damaged blocks as it is, marked, and end with status 3; refuse: "
    "the shard fails, and its earlier archive stays the newest; accept: give it once, after files "
    "of a shard were lost or deleted on purpose: as keep, and stop naming those files",
)
@click.option(
    "-new-era",
    "--new-era",
    "new_era",
    is_flag=True,
    help="give it once, after the server was set up anew, put back to an earlier state or replaced "
    "by a copy: copy everything beside the backups in the directory, which stay restorable",
)
@click.option(
    "-gzipBlockCount",
    "--gzipBlockCount",
    "_block_count",
    type=Integer(min=0),
    metavar="<int>",
    expose_value=False,
    help="accepted for compatibility, without effect: shards are compressed in parallel",
)
@click.option(
    "-gzipBlockSize",
    "--gzipBlockSize",
    "_block_size",
    type=Integer(min=0),
    metavar="<int>",
    expose_value=False,
    help="as -gzipBlockCount",
)
@click.option(
    "-bufsize",
    "--bufsize",
    "_buffer_size",
    type=Integer(min=0),
    metavar="<int>",
    expose_value=False,
    help="as -gzipBlockCount",
)
@click.option(
    "-cpuprofile",
    "--cpuprofile",
    "profiling",
    is_flag=True,
    help=f"write a CPU profile of the run to {PROFILE_FILE}, for python -m pstats",
)
@click.option(
    "-gzipCompressionLevel",
    "--gzipCompressionLevel",
    "level",
    type=click.Choice(["default", "full", "speedy", "none"]),
    default="default",
    show_default=True,
    help="the compression level of archives",
)
@click.argument("path", metavar="<path-to-backup-directory>", required=False)
@takes(flags=BackupFlags)
def backup(
    connection: ConnectionFlags,
    path: str | None,
    flags: BackupFlags,
    *,
    estimate: bool,
    profiling: bool,
) -> None:
    """Back up a server or a cluster into an existing directory.

    Only shards that changed since the newest backup in that directory are copied; the first
    backup copies all. -estimate needs no directory.
    """
    options = flags.options()
    if path is None and not estimate:
        raise click.UsageError("Missing argument '<path-to-backup-directory>'.")
    path = "." if path is None else path
    repository = open_repository(path)
    source = connection.source()
    if estimate:
        plan = plan_backup(source, repository, options, emit=TerminalOutput(render.backup_line))
        click.echo(render_estimate(plan, seconds_per_byte(repository)))
        return
    command = f"backup {shlex.quote(path)}"
    emit = TerminalOutput(render.backup_line)
    with _profiled(profiling):
        report = back_up(source, repository, options, Run(emit), command=command)
    click.echo(render.backed_up(path, report.seconds, report.bytes_transferred))
    report.check_complete()


def _profiled(requested: bool) -> AbstractContextManager[None]:
    if not requested:
        return nullcontext()
    from pipelines.ctl.cpu_profile import cpu_profile  # hardly any run needs to load it

    return cpu_profile(PROFILE_FILE)
