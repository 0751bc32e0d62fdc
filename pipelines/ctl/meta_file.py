"""`restore -meta-file`: a backup's metastore as the meta.db that a single server starts with."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pipelines.ctl.overwrite import Wanted
from resources.errors import StoreFailed, UsageError, counted
from resources.protocol.meta import decode_metastore

MODE = 0o600
"""The file holds hashes of passwords."""


def write_meta_file(path: str, wanted: Wanted) -> None:
    """Write the file; an existing file is not overwritten.

    Raises:
        UsageError: the backup is of a cluster, whose meta nodes have no such file.
        StoreFailed: the file cannot be written, or already exists.
        RepositoryError: the backup cannot be read.
    """
    repository, backup, _ = wanted.choose()
    meta = repository.read_meta(backup)
    metastore = decode_metastore(meta)
    if metastore.data_nodes or metastore.meta_nodes:
        raise UsageError(
            "this is a backup of a cluster, whose meta nodes keep their metastore in a log",
            hint="restore -meta-only-overwrite-force puts it in the place of the cluster's",
        )
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
        with os.fdopen(fd, "wb") as file:
            file.write(meta)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreFailed(
            f"{path}: {error.strerror}", hint="name a file that is not there yet"
        ) from None
    names = ", ".join(database.name for database in metastore.databases) or "none"
    shards = sum(1 for _ in metastore.places())
    click.echo(
        f"{Path(path)}: the metastore of {backup.newest.file_name.removesuffix('.manifest')}, "
        f"{len(meta)} bytes, {counted(shards, 'shard')} of the databases {ascii(names)[1:-1]}"
    )
    click.echo(
        "  next: stop influxd, put it as meta.db where its configuration has [meta] dir, readable "
        "for influxd alone, and start it; then back it up",
        err=True,
    )
