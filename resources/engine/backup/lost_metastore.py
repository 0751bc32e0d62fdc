"""A single server whose meta.db is gone: its shards are on its disk, and it serves none of them.

The server starts with an empty metastore and a new number and opens every shard that it finds.
It serves none, because it looks shards up in the metastore. With the metastore of a backup as
meta.db, everything on its disk is there again, also points that are newer than that backup.

Held by tests/wire/test_lost_meta.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from resources.errors import MetaLost, counted, named_few, shown
from resources.model import INTERNAL_DATABASE, Metastore, ShardID

NAMED = 10


def require_metastore(
    metastore: Metastore, orphans: Mapping[ShardID, str], address: str, location: str
) -> None:
    """Refuse a server that knows no database but has shards on its disk.

    Args:
        orphans: shards on its disk that its metastore does not know, with `database/policy`.
        location: the repository, if it has a backup with a metastore; else empty.

    Raises:
        MetaLost: the server is in that state.
    """
    known = {database.name for database in metastore.databases} - {INTERNAL_DATABASE}
    if not known and strange(orphans):
        raise meta_lost(orphans, address, location)


def strange(orphans: Mapping[ShardID, str]) -> list[str]:
    """Databases of orphaned shards, except the server's own."""
    return sorted({place.partition("/")[0] for place in orphans.values()} - {INTERNAL_DATABASE})


def meta_lost(orphans: Mapping[ShardID, str], address: str, location: str) -> MetaLost:
    """An error that names the shards on the disk and the way to recover them."""
    databases = strange(orphans)
    names = named_few(map(shown, databases), NAMED)
    hint = (
        "no backup here has its metastore: look for a copy of meta.db, or export what is on the "
        "disk with influx_inspect export; write nothing to the server before that"
    )
    if location:
        hint = (
            "write nothing to it; shardkeeper restore -meta-file meta.db "
            f"{location} gives its metastore back: stop influxd, put that file where its "
            "configuration has [meta] dir, readable for influxd alone, and start it: all that is "
            "on its disk is there again"
        )
    return MetaLost(
        f"{address} has {counted(len(orphans), 'shard')} on its disk that its metastore does not "
        f"know, of the databases {names}: its meta.db is lost, or another one is in its "
        "place",
        hint=hint,
    )
