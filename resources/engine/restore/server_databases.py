"""What a restore states about the databases of a single server: queries to create, one to drop."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from resources.clients.server import Server
from resources.engine.events import Emit, Warned
from resources.engine.restore.plan import DatabaseRestore
from resources.engine.restore.same_server import check_shards
from resources.errors import ConnectionCut, ShardkeeperError, shown
from resources.model import ShardID
from resources.protocol.influxql import check_continuous_query, quote_identifier

DROPS = 4
DROP_SHOWS_S = 0.3
"""How long a DROP DATABASE whose answer was lost may take to show."""
LIMITS_SINCE = (1, 12)
"""The first version that knows write limits."""


def run_queries(
    server: Server, database: DatabaseRestore, ids: Mapping[ShardID, ShardID], *, emit: Emit
) -> None:
    """Create continuous queries; one that fails is reported and does not undo the restore.

    Their text comes from a file, so only what is one CREATE CONTINUOUS QUERY is sent.
    """
    for statement in database.continuous_queries:
        try:
            check_continuous_query(statement)
            check_shards(server, database.name, ids.values())
            assert server.http is not None  # noqa: S101 - check_shards asked it
            server.http.query(statement, again=True)
        except ShardkeeperError as error:
            emit(
                Warned(
                    f"a continuous query could not be created ({error.what}); run it by hand: "
                    f"{statement}"
                )
            )


def drop_database(server: Server, name: str, ids: Collection[ShardID]) -> None:
    """DROP DATABASE, if it has exactly these shards, and a look whether it is gone.

    Raises:
        UsageError: HTTP leads to another server, or the database is not ours.
        WireError: the server could not be reached or refused.
    """
    for attempt in range(1, DROPS + 1):
        check_shards(server, name, ids)
        assert server.http is not None  # noqa: S101 - check_shards asked it
        try:
            server.http.query(f"DROP DATABASE {quote_identifier(name)}")
        except ConnectionCut:
            if attempt == DROPS:
                raise
            time.sleep(DROP_SHOWS_S)
            if server.metastore()[1].database(name) is None:
                return
            continue  # whether it is still ours is looked at again
        if server.metastore()[1].database(name) is not None:
            raise server.other_server(f"{shown(name)} was dropped there and is still here")
        return


def version_tuple(version: str) -> tuple[int, int]:
    """`1.8.10` → (1, 8); an unknown version counts as the oldest we support."""
    parts = version.lstrip("v").split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (IndexError, ValueError):
        return (1, 5)
