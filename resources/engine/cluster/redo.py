"""What others changed and setting the metastore undid, done once more by single commands.

Commands undo nothing of others' and need no quiet moment. What they cannot do is left for
`put_back`: shard groups, whose numbers the cluster would choose anew, and changes of databases
that were there.
"""

from __future__ import annotations

from collections.abc import Iterator

from resources.clients.cluster import Cluster
from resources.engine.cluster.rollback import persistently
from resources.errors import PeerRefused, PlanError, shown
from resources.model import DatabaseInfo, Metastore, RetentionPolicyInfo, UserInfo
from resources.protocol.commands import (
    Command,
    CreateContinuousQuery,
    CreateDatabase,
    CreateRetentionPolicy,
    CreateUser,
    DropDatabase,
    DropUser,
    RetentionPolicySpec,
    SetAdminPrivilege,
    SetPrivilege,
    UpdateUser,
)


def redo(cluster: Cluster, base: Metastore, theirs: Metastore, now: Metastore) -> list[str]:
    """Do what can be done by commands; returns what was: `database 'x'`, `user 'y'`.

    Args:
        base: what others began with.
        theirs: what they made of it.
        now: what is there and knows nothing of that.

    Raises:
        WireError: some of it may be done.
    """
    done: list[str] = []
    for what, commands in (*_databases(base, theirs, now), *_users(base, theirs, now)):
        try:
            for command in commands:
                persistently(cluster, command)
        except (PeerRefused, PlanError):
            continue  # it has changed again, or is no work for commands
        done.append(what)
    return done


Redone = tuple[str, list[Command]]


def _databases(base: Metastore, theirs: Metastore, now: Metastore) -> Iterator[Redone]:
    for database in theirs.databases:
        if base.database(database.name) is None and now.database(database.name) is None:
            commands = _created(database)
            if commands:
                yield f"database {shown(database.name)}", commands
    for database in base.databases:
        if theirs.database(database.name) is None and now.database(database.name) == database:
            yield f"database {shown(database.name)}", [DropDatabase(database.name)]


def _created(database: DatabaseInfo) -> list[Command]:
    """None where a database has shard groups or what no command makes."""
    policies = database.retention_policies
    default = database.retention_policy(database.default_retention_policy)
    if default is None or any(rp.shard_groups or rp.subscriptions for rp in policies):
        return []
    return [
        CreateDatabase(database.name, _spec(default)),
        *(CreateRetentionPolicy(database.name, _spec(rp)) for rp in policies if rp is not default),
        *(
            CreateContinuousQuery(database.name, query.name, query.query)
            for query in database.continuous_queries
        ),
    ]


def _spec(rp: RetentionPolicyInfo) -> RetentionPolicySpec:
    return RetentionPolicySpec(rp.name, rp.duration_ns, rp.shard_group_duration_ns, rp.replica_n)


def _users(base: Metastore, theirs: Metastore, now: Metastore) -> Iterator[Redone]:
    old, new, there = ({user.name: user for user in one.users} for one in (base, theirs, now))
    for name, user in new.items():
        before = there.get(name)
        if before == old.get(name) and user != before:
            yield f"user {shown(name)}", _made(user, before)
    for name, user in old.items():
        if name not in new and there.get(name) == user:
            yield f"user {shown(name)}", [DropUser(name)]


def _made(user: UserInfo, before: UserInfo | None) -> list[Command]:
    """The commands that turn `before` into a user, or create it; revoked rights become none."""
    commands: list[Command] = []
    if before is None:
        commands.append(CreateUser(user.name, user.hash, user.admin))
    else:
        if user.hash != before.hash:
            commands.append(UpdateUser(user.name, user.hash))
        if user.admin != before.admin:
            commands.append(SetAdminPrivilege(user.name, user.admin))
    granted = {grant.database: grant.privilege for grant in before.privileges} if before else {}
    commands += [
        SetPrivilege(user.name, grant.database, grant.privilege)
        for grant in user.privileges
        if granted.get(grant.database) != grant.privilege
    ]
    kept = {grant.database for grant in user.privileges}
    commands += [
        SetPrivilege(user.name, database, 0) for database in granted if database not in kept
    ]
    return commands
