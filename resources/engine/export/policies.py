"""The retention policy that a query without one means: the default one of the database."""

from __future__ import annotations

from resources.errors import NothingMatches, named_few, shown
from resources.model import Metastore


def policy_of(metastore: Metastore, database: str, policy: str | None) -> str:
    """The policy as given, or the default one of the database, as in `SELECT`.

    Raises:
        NothingMatches: there is no such database, or it has no default policy.
    """
    found = metastore.database(database)
    if found is None:
        raise NothingMatches(
            f"database {shown(database)} does not exist",
            hint=f"databases: {named_few(shown(one.name) for one in metastore.databases)}",
        )
    chosen = policy or found.default_retention_policy
    if not chosen:
        raise NothingMatches(
            f"database {shown(database)} has no default retention policy",
            hint=f"policies: {named_few(shown(one.name) for one in found.retention_policies)}",
        )
    return chosen
