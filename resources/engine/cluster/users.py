"""Users of a backup that a cluster does not have, with their passwords and grants."""

from __future__ import annotations

from collections.abc import Sequence

from resources.clients.cluster import Cluster
from resources.engine.events import Emit, Warned
from resources.errors import ShardkeeperError, shown
from resources.model import UserInfo
from resources.protocol.commands import CreateUser, SetPrivilege

BCRYPT = "$2"
PRIVILEGES = {1: "READ", 2: "WRITE", 3: "ALL"}


def note_users(source: Sequence[UserInfo], there: Sequence[UserInfo]) -> list[str]:
    """One line for each user: what will become of it."""
    names = {user.name for user in there}
    notes: list[str] = []
    for user in source:
        if user.name in names:
            notes.append(f"user {shown(user.name)} is there already and stays as it is")
            continue
        grants = [
            f"{PRIVILEGES[grant.privilege]} on {shown(grant.database)}"
            for grant in user.privileges
            if grant.privilege in PRIVILEGES
        ]
        what = ", ".join(["may do everything"] * user.admin + grants) or "no grants"
        notes.append(f"user {shown(user.name)} is created with the password it had: {what}")
    return notes


def create_users(cluster: Cluster, source: Sequence[UserInfo], *, emit: Emit) -> None:
    """Create the users that are missing, and grant what they had on databases that are there.

    One that fails is reported and undoes nothing.
    """
    for user in source:
        try:
            _, now = cluster.metastore()
            if any(found.name == user.name for found in now.users):
                continue
            if not user.name or not user.hash.startswith(BCRYPT):
                emit(Warned(f"user {shown(user.name)} is left out: it has no name or no password"))
                continue
            cluster.meta.execute(CreateUser(user.name, user.hash, user.admin))
            for grant in user.privileges:
                if grant.privilege in PRIVILEGES and now.database(grant.database):
                    cluster.meta.execute(SetPrivilege(user.name, grant.database, grant.privilege))
        except ShardkeeperError as error:
            emit(
                Warned(
                    f"user {shown(user.name)} could not be created with all its grants "
                    f"({error.what}); SHOW GRANTS tells which it has"
                )
            )
