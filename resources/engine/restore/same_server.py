"""A restore talks to its target through two doors. Do both lead to the same server?

Databases are imported and uploaded over TCP, and dropped over HTTP. If the HTTP address is
another server's, undoing a failed restore would drop that one's database of the same name.
So nothing is stated over HTTP about a database before HTTP has shown it to be ours.
"""

from __future__ import annotations

from collections.abc import Collection

from resources.clients.server import Server
from resources.engine.events import Emit, Warned
from resources.errors import CredentialsRefused, PeerUnreachable, WireError, shown
from resources.model import ShardID


def check_same_server(server: Server, new_databases: Collection[str], *, emit: Emit) -> None:
    """Look through both doors before anything is changed.

    Raises:
        UsageError: HTTP tells of a database that the other door does not have.
    """
    try:
        if server.http is None:
            raise PeerUnreachable("no HTTP address is known")
        over_http = set(server.http.databases())
    except (PeerUnreachable, CredentialsRefused) as error:
        emit(
            Warned(
                f"{error.what}; if the restore fails, what it created stays and must be dropped "
                "by hand (-http, -user and -pwd-file let us in)"
            )
        )
        return
    _, metastore = server.metastore()
    strange = sorted(over_http - {database.name for database in metastore.databases})
    if strange:
        # A database that appears between the two readings is refused as well, which is harmless.
        about = sorted(set(strange) & set(new_databases)) or strange
        raise server.other_server(
            f"it lists database {shown(about[0])}, which the server does not have"
        )


def check_shards(server: Server, database: str, ids: Collection[ShardID]) -> None:
    """Insist that the database HTTP speaks of has exactly these shards.

    Raises:
        UsageError: it has others, so the address is another server's.
        WireError: HTTP does not answer, or refuses.
    """
    if server.http is None:
        raise WireError("no HTTP address is known", hint="name it with -http")
    found: set[int] = set()
    for series in server.http.query("SHOW SHARDS", again=True):
        if series.name == database and "id" in series.columns:
            at = series.columns.index("id")
            found.update(row[at] for row in series.values if isinstance(row[at], int))
    if found != set(ids):
        raise server.other_server(f"its database {shown(database)} has other shards")
