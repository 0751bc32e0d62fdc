"""`shardkeeper list`: the backups in a directory, and what a restore of them would bring back."""

from __future__ import annotations

from datetime import datetime

import click

from pipelines.ctl.go_flags import GoFlags
from pipelines.ctl.list_render import catalog_json, render_catalog
from pipelines.ctl.params import Instant
from pipelines.ctl.store import open_repository
from resources.engine.catalog.catalog import read_catalog
from resources.engine.selection import check_limits
from resources.errors import ManifestUnreadable, named_few
from resources.repository.formats.manifest import Limits


@click.command("list", cls=GoFlags)
@click.option("-db", "--db", "database", metavar="<name>", help="only shards of this database")
@click.option("-rp", "--rp", "policy", metavar="<name>", help="only shards of this policy of -db")
@click.option("-shards", "--shards", is_flag=True, help="one line for each shard")
@click.option(
    "-as-of",
    "--as-of",
    type=Instant(),
    metavar="<time>",
    help="backups that began at this time or before, and the state of that time",
)
@click.option("-json", "--json", "as_json", is_flag=True, help="one JSON object (docs/list.md)")
@click.argument("path", metavar="<path-to-backup-directory>")
def list_(
    path: str,
    *,
    database: str | None,
    policy: str | None,
    shards: bool,
    as_of: datetime | None,
    as_json: bool,
) -> None:
    """List the backups in a directory, and what a restore would read of them.

    The first table has a line for each backup. The second one has a line for each database and
    policy of the newest state, or with -shards for each shard: how much is stored, the times of
    its points, and how much is known of its archives. Reads manifests and receipts, and no
    archive; contacts no server.
    """
    limits = Limits(database or "", policy or "")
    check_limits(limits)
    repository = open_repository(path)
    catalog = read_catalog(repository, as_of=as_of)
    now_ns = int(repository.clock().timestamp()) * 1_000_000_000
    if as_json:
        click.echo(catalog_json(catalog, limits, now_ns))
    else:
        click.echo(render_catalog(catalog, limits, now_ns, by_shard=shards))
    if catalog.unreadable:
        names = named_few(catalog.unreadable)
        raise ManifestUnreadable(
            f"the newest state is not known, since manifests cannot be read: {names}",
            hint=f"shardkeeper verify {path} says what is damaged, and -repair what can be helped",
        )
