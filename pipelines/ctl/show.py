"""`show` and `show-shards`: who belongs to a cluster, and what it holds."""

from __future__ import annotations

import click

from pipelines.ctl.connect import Door
from pipelines.ctl.show_render import render_members, render_shards, render_single, shards_of
from resources.clients.cluster import Cluster


@click.command()
@click.pass_obj
def show(door: Door) -> None:
    """List the data nodes and meta nodes of a cluster."""
    source = door.source()
    if isinstance(source, Cluster):
        click.echo(render_members(source.meta.members()), nl=False)
    else:
        click.echo(render_single(source.address, source.metastore()[1]), nl=False)


@click.command("show-shards")
@click.option(
    "-v",
    "verbose",
    is_flag=True,
    help="ask each owner for its copy's state, time of change and size",
)
@click.pass_obj
def show_shards(door: Door, verbose: bool) -> None:
    """List the shards of a cluster and who owns them; of a single server, without owners."""
    source = door.source()
    if isinstance(source, Cluster):
        shards = source.meta.shards(verbose=verbose)
    else:
        shards = shards_of(source.metastore()[1])
    click.echo(render_shards(shards, verbose=verbose), nl=False)
