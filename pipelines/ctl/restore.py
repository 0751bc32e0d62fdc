"""`restore`: bring databases back from a directory of backups, or from one manifest."""

from __future__ import annotations

import time

import click
from msgspec import Struct

from pipelines.ctl import render
from pipelines.ctl.connection_flags import ConnectionFlags, connection_flags
from pipelines.ctl.go_flags import GoFlags
from pipelines.ctl.listing import render_list
from pipelines.ctl.meta_file import write_meta_file
from pipelines.ctl.output import TerminalOutput
from pipelines.ctl.overwrite import Wanted, overwrite_metastore
from pipelines.ctl.params import Duration, Instant, Integer
from pipelines.ctl.planning import plan_json, render_plan
from pipelines.ctl.typed_flags import takes
from resources.engine.cluster.restore_journal import unfinished_in_clusters
from resources.engine.events import MetaRestored, ReceiptStored, Run
from resources.engine.restore.plan import Precheck, RestoreOptions
from resources.engine.restore.preview import preview_restore
from resources.engine.restore.run import restore as engine_restore
from resources.engine.restore.server_journal import unfinished_restores
from resources.engine.restore_target import restore_target
from resources.errors import ShardkeeperError, UsageError
from resources.model import ShardID
from resources.protocol.meta import decode_metastore
from resources.repository.formats.manifest import Limits


class RestoreFlags(Struct, frozen=True, kw_only=True):
    """The flags that are about the restore itself, as they were given."""

    db: str | None
    rp: str | None
    shard: int | None
    new_database: str | None
    newrp: str | None
    newrf: int | None
    newshard: int | None
    duration_ns: int | None
    users: bool
    skip_expired: bool
    receipts: str
    keep_tombstoned: bool
    precheck: Precheck
    parallel: int
    workers: int | None

    @property
    def limits(self) -> Limits:
        return Limits(self.db or "", self.rp or "", ShardID(self.shard) if self.shard else None)

    @property
    def options(self) -> RestoreOptions:
        """As the engine takes them.

        Raises:
            UsageError: they mean nothing together.
        """
        return RestoreOptions(
            limits=self.limits,
            new_database=self.new_database or "",
            new_policy=self.newrp or "",
            new_duration_ns=self.duration_ns,
            new_replica_n=self.newrf or None,
            new_shard_id=ShardID(self.newshard) if self.newshard else None,
            users=self.users,
            skip_expired=self.skip_expired,
            receipts=self.receipts == "on",
            keep_tombstoned=self.keep_tombstoned,
            precheck=self.precheck,
            parallel=self.parallel,
            workers=self.workers,
        )

    def check_alone(self, flag: str) -> None:
        """Insist that nothing was asked for that is about points.

        Args:
            flag: what does not go with it.

        Raises:
            UsageError: flags contradict each other.
        """
        for other, given in (
            ("-db", self.db),
            ("-rp", self.rp),
            ("-shard", self.shard),
            ("-newdb", self.new_database),
            ("-newrp", self.newrp),
            ("-newrf", self.newrf),
            ("-newshard", self.newshard),
            ("-newduration", self.duration_ns is not None),
            ("-users", self.users),
            ("-keep-tombstoned", self.keep_tombstoned),
        ):
            if given:
                raise UsageError(
                    f"{other} does not go with {flag}, which is about the whole metastore and "
                    "restores no points"
                )


@click.command(cls=GoFlags)
@connection_flags
@click.option("-db", "--db", metavar="<string>", help="the name of the single database to restore")
@click.option("-list", "--list", "listing", is_flag=True, help="shows the contents of the backup")
@click.option(
    "-newdb",
    "--newdb",
    "new_database",
    metavar="<string>",
    help="the name of the new database to restore to (must specify with -db)",
)
@click.option(
    "-newrf",
    "--newrf",
    type=Integer(min=0, max=2**31 - 1),
    metavar="<int>",
    help="the new replication factor to restore to (this is capped to the number of data nodes in "
    "the cluster); a single server keeps one copy",
)
@click.option(
    "-newrp",
    "--newrp",
    metavar="<string>",
    help="the name of the new retention policy to restore to (must specify with -rp)",
)
@click.option(
    "-rp", "--rp", metavar="<string>", help="the name of the single retention policy to restore"
)
@click.option(
    "-shard",
    "--shard",
    type=Integer(min=0, max=2**64 - 1),
    metavar="<unit>",
    help="the shard ID to restore",
)
@click.option(
    "-newshard",
    "--newshard",
    type=Integer(min=0, max=2**64 - 1),
    metavar="<unit>",
    help="the shard ID to restore into: a shard that is there and empty (must specify with -shard)",
)
@click.option(
    "-newduration",
    "--newduration",
    "duration_ns",
    type=Duration(),
    metavar="<duration>",
    help="how long the restored policies keep points; 0s is for ever",
)
@click.option(
    "-meta-only-overwrite-force",
    "--meta-only-overwrite-force",
    "overwriting",
    is_flag=True,
    help="replace the metastore of the cluster by the backup's, and restore nothing else; only for "
    "backups of this very cluster: databases, shards and users that it does not know are forgotten",
)
@click.option(
    "-users",
    "--users",
    is_flag=True,
    help="create users that the cluster does not have, with the passwords and grants that they "
    "had; -plan shows which",
)
@click.option(
    "-skip-expired",
    "--skip-expired",
    is_flag=True,
    help="leave out shards that the target's retention would delete at once",
)
@click.option(
    "-as-of",
    "--as-of",
    type=Instant(),
    metavar="<time>",
    help="restore the state of that time: backups begun later are not read",
)
@click.option(
    "-keep-tombstoned",
    "--keep-tombstoned",
    is_flag=True,
    help="bring back points that were deleted at the source shortly before the backup, as the "
    "original does; else pending deletes are applied",
)
@click.option(
    "-receipts",
    "--receipts",
    type=click.Choice(["on", "off"]),
    default="on",
    help="on: every copy is read back and compared, and T.receipt.json beside the backups says "
    "so; off: faster, and nothing proves what arrived",
)
@click.option(
    "-precheck",
    "--precheck",
    type=click.Choice(["sizes", "digests"]),
    default=RestoreOptions().precheck,
    show_default=True,
    help="what is checked of each archive before the target is touched. sizes: that it is there, "
    "with the size that was recorded; its bytes are checked while they are sent, and what an "
    "archive that fails has left is undone. digests: all of its bytes; every archive is read twice",
)
@click.option(
    "-parallel",
    "--parallel",
    type=Integer(min=1, max=64),
    default=RestoreOptions().parallel,
    show_default=True,
    metavar="<int>",
    help="shards sent at once",
)
@click.option(
    "-workers",
    "--workers",
    type=Integer(min=1, max=64),
    envvar="SHARDKEEPER_WORKERS",
    metavar="<int>",
    help="processes that send; they share the connections of -parallel, so there are never more of "
    "them than that (default: by cores, and by what there is to send; 1: this process alone)",
)
@click.option(
    "-plan", "--plan", "plan", is_flag=True, help="show what would be done, and do nothing"
)
@click.option(
    "-json",
    "--json",
    "as_json",
    is_flag=True,
    help="with -plan: print it as JSON (docs/restore-plan.md)",
)
@click.option(
    "-meta-file",
    "--meta-file",
    "meta_file",
    metavar="<file>",
    help="write the backup's metastore to this file, as the meta.db of a single server that lost "
    "it, and restore nothing else",
)
@click.option(
    "-full", "--full", is_flag=True, help="restore one full backup; the path is its manifest"
)
@click.argument("path", metavar="<path-to-backup-directory|path-to-manifest-file>")
@takes(wanted=Wanted, asked=RestoreFlags)
def restore(
    connection: ConnectionFlags,
    wanted: Wanted,
    asked: RestoreFlags,
    *,
    overwriting: bool,
    listing: bool,
    meta_file: str | None,
) -> None:
    """Restore from a directory of incremental backups, or with -full from one manifest.

    Databases of the same names must not exist on the target; -newdb restores beside them.
    Every copy of a shard is read back before it counts as restored. A shard whose connection
    breaks is sent again alone; a restore that was killed continues when the same command is started
    again.
    """
    if meta_file:
        asked.check_alone("-meta-file")
        wanted.check()
        write_meta_file(meta_file, wanted)
        return
    options = None if overwriting else asked.options
    wanted.check()
    if listing:
        _list(wanted, asked.limits)
    elif options is None:
        asked.check_alone("-meta-only-overwrite-force")
        overwrite_metastore(connection, wanted, skip_expired=asked.skip_expired)
    else:
        _restore(connection, wanted, options)


def _list(wanted: Wanted, limits: Limits) -> None:
    repository, backup, chosen = wanted.choose()
    if not wanted.as_json:
        TerminalOutput(render.restore_line)(chosen)
    meta = decode_metastore(repository.read_meta(backup))
    click.echo(render_list(backup, meta, limits))
    for text in (*unfinished_in_clusters(repository.store), *unfinished_restores(repository.store)):
        click.echo(f"note: {text}", err=True)


def _restore(connection: ConnectionFlags, wanted: Wanted, options: RestoreOptions) -> None:
    began = time.monotonic()
    repository, backup, chosen = wanted.choose()
    emit = TerminalOutput(render.restore_line)
    if not wanted.as_json:
        emit(chosen)
    target = restore_target(connection.source(), repository, Run(emit), options.new_shard_id)
    if wanted.plan:
        preview = preview_restore(target, backup, options)
        click.echo(plan_json(preview) if wanted.as_json else render_plan(preview))
        for conflict in preview.conflicts:
            raise conflict
        return
    try:
        report = engine_restore(target, backup, options)
    except ShardkeeperError as error:
        if not (isinstance(error, UsageError) or emit.emitted(MetaRestored)):
            click.echo("Restoring meta data... Error.")
        raise
    seconds = time.monotonic() - began
    click.echo(render.restored(chosen.directory, seconds, report.bytes_transferred))
    if report.receipt_path and click.get_current_context().find_root().info_name == "shardkeeper":
        copies = sum(len(shard.receipts) for shard in report.shards)
        click.echo(render.printable(str(ReceiptStored(report.receipt_path, copies))), err=True)
    report.check_complete()
