"""`shardkeeper repair-replica`: an owner that lost its shard gets it back from another owner."""

from __future__ import annotations

import click

from pipelines.ctl.connection_flags import ConnectionFlags, connection_flags
from pipelines.ctl.go_flags import GoFlags
from pipelines.ctl.output import TerminalOutput
from pipelines.ctl.params import Integer
from resources.clients.cluster import Cluster
from resources.engine.repair_replica import (
    ReplicaRepair,
    plan_replica_repair,
    repair_replica,
)
from resources.errors import UsageError, counted
from resources.model import ShardID


@click.command("repair-replica", cls=GoFlags)
@connection_flags
@click.option(
    "-shard",
    "--shard",
    type=Integer(min=1, max=2**64 - 1),
    metavar="<unit>",
    required=True,
    help="the shard whose owners are compared",
)
@click.option(
    "-apply", "--apply", "applying", is_flag=True, help="fill them; without it only show the plan"
)
@click.option(
    "-scratch",
    "--scratch",
    metavar="<directory>",
    help="a directory with room for an archive of the shard (default: TMPDIR, or the system's)",
)
def repair(connection: ConnectionFlags, *, shard: int, applying: bool, scratch: str | None) -> None:
    """Fill owners that lost a shard from the owner that has all its points.

    Only an owner without any file of the shard is filled; the files of the others stay as they
    are. The new copy is read back and compared before it counts. Without -apply nothing is
    changed.
    """
    shard_id = ShardID(shard)
    cluster = connection.source()
    if not isinstance(cluster, Cluster):
        raise UsageError(
            f"{cluster.address} is a single server, whose shards have no replicas",
            hint="-bind names a meta node of a cluster; restore brings a shard back from a backup",
        )
    found = plan_replica_repair(cluster, shard_id)
    click.echo(_text(found))
    if not found.lost:
        return
    if not applying:
        click.echo("nothing was changed: -apply fills them")
        return
    report = repair_replica(cluster, found, scratch, emit=TerminalOutput())
    nodes = ", ".join(copy.node for copy in found.lost)
    click.echo(f"shard {shard_id} on {nodes} is filled, read back and compared")
    report.check_complete()


def _text(found: ReplicaRepair) -> str:
    place = found.place
    lines = [f"shard {place.shard_id} of {place.database!a}.{place.policy!a}"]
    for copy in found.copies:
        size = sum(file.size_bytes for file in copy.files)
        text = (
            f"{counted(len(copy.files), 'file')}, {size} bytes"
            if copy.files
            else "nothing: to be filled"
        )
        lines.append(f"  {copy.node}: {text}")
    if not found.lost:
        lines.append("no owner lost it; a backup says whether their points differ")
    return "\n".join(lines)
