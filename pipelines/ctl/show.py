"""`show` and `show-shards`: who belongs to a cluster, and what it holds."""

from __future__ import annotations

import click

from pipelines.ctl.connection_flags import ConnectionFlags
from pipelines.ctl.go_flags import GoFlags
from pipelines.ctl.show_render import render_members, render_shards, render_single, shards_of
from resources.clients.cluster import Cluster
from resources.engine.cluster.inconsistent import inconsistent_shards


@click.command(cls=GoFlags)
@click.pass_obj
def show(connection: ConnectionFlags) -> None:
    """List the data nodes and meta nodes of a cluster."""
    source = connection.source()
    if isinstance(source, Cluster):
        click.echo(render_members(source.meta.members()), nl=False)
    else:
        click.echo(render_single(source.address, source.metastore()[1]), nl=False)


@click.command("show-shards", cls=GoFlags)
@click.option(
    "-v",
    "verbose",
    is_flag=True,
    help="ask each owner for its copy's state, time of change and size",
)
@click.option(
    "-m",
    "inconsistent",
    is_flag=True,
    help="only shards that an owner does not have on its disk, and those on a disk that the "
    "metastore does not give that node",
)
@click.pass_obj
def show_shards(connection: ConnectionFlags, verbose: bool, inconsistent: bool) -> None:
    """List the shards of a cluster and who owns them; of a single server, without owners."""
    source = connection.source()
    if isinstance(source, Cluster):
        if inconsistent:
            shards, silent = inconsistent_shards(source)
            for node in silent:
                click.echo(f"warning: {node}; its shards are not looked at", err=True)
        else:
            shards = source.meta.shards(verbose=verbose)
    else:
        _, metastore = source.metastore()
        shards = shards_of(metastore)
        if inconsistent:
            there = source.shards_on_disk()
            shards = tuple(shard for shard in shards if shard.id not in there)
    click.echo(render_shards(shards, verbose=verbose or inconsistent), nl=False)
