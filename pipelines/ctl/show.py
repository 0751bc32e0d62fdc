"""`show` and `show-shards`: the members of a cluster, and its shards."""

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
    help="also show the state, time of change and size of each owner's copy",
)
@click.option(
    "-m",
    "inconsistent",
    is_flag=True,
    help="only shards that are missing on an owner's disk, and shards on the disk of a node that "
    "does not own them",
)
@click.pass_obj
def show_shards(connection: ConnectionFlags, verbose: bool, inconsistent: bool) -> None:
    """List the shards of a cluster and their owners, or the shards of a single server."""
    source = connection.source()
    if isinstance(source, Cluster):
        if inconsistent:
            shards, silent = inconsistent_shards(source)
            for node in silent:
                click.echo(f"warning: {node}; its shards are not checked", err=True)
        else:
            shards = source.meta.shards(verbose=verbose)
    else:
        _, metastore = source.metastore()
        shards = shards_of(metastore)
        if inconsistent:
            there = source.shards_on_disk()
            shards = tuple(shard for shard in shards if shard.id not in there)
    click.echo(render_shards(shards, verbose=verbose or inconsistent), nl=False)
