"""Executes statements that change metadata or data, on all nodes.

Source: influxdb-cluster coordinator/statement_executor.go and meta_executor.go.
"""

from __future__ import annotations

from collections.abc import Callable

from resources.embedded.data.copies import Copies
from resources.embedded.influxql import statements as ql
from resources.embedded.meta.group import SharedMeta
from resources.embedded.meta.passwords import fits, hashed
from resources.embedded.meta.shard_groups import HOUR_NS
from resources.embedded.server_errors import StatementFailed
from resources.embedded.shards.store import ShardStore
from resources.errors import ShardkeeperError, UnsafeName
from resources.model import ShardID
from resources.protocol import commands
from resources.protocol.influxql import check_name

DEFAULT_POLICY = "autogen"
MAX_AUTOGEN_REPLICA_N = 3

Deletion = Callable[
    [str, ql.Delete | ql.DropSeries | ql.DropMeasurement], Callable[[ShardStore], None]
]
"""Carries out a statement's deletion on one node's shards."""


class Changes:
    """Carries out changes for one node.

    A change of data goes to every node that is up. A node that is down keeps the old data and
    has it after its start, as in the original.
    """

    def __init__(self, meta: SharedMeta, copies: Copies, deletion: Deletion) -> None:
        self._meta = meta
        self._copies = copies
        self._deletion = deletion

    def carry_out(self, statement: ql.Change, database: str) -> None:
        """Change metadata and data, on all nodes.

        Raises:
            StatementFailed: the statement cannot be executed; with the server's words.
        """
        try:
            if isinstance(statement, ql.Delete | ql.DropSeries | ql.DropMeasurement):
                self._expect_database(database)
                delete = self._deletion(database, statement)
                for store in self._copies.everywhere():
                    delete(store)
                return
            if isinstance(statement, ql.DropShard):
                self._expect_shard(ShardID(statement.id))
            for store in self._copies.everywhere():
                self.carry_out_on(store, statement, database)
            command = self._command(statement)
            if command is not None:
                self._meta.execute(command)
        except StatementFailed:
            raise
        except UnsafeName:
            raise StatementFailed("invalid name") from None
        except ShardkeeperError as error:
            raise StatementFailed(str(error)) from error

    def carry_out_on(self, store: ShardStore, statement: ql.Statement, database: str) -> bool:
        """Carry out a statement's deletion on one node's disk; False if it deletes nothing.

        The metadata is not read, so shards that it does not list can be dropped, too.
        """
        match statement:
            case ql.DropDatabase():
                _remove(store, statement.name, None)
            case ql.DropRetentionPolicy():
                _remove(store, statement.database or database, statement.name)
            case ql.DropShard():
                store.remove(ShardID(statement.id))
            case ql.DropSeries():
                # Nodes send each other DELETE, so here the condition may have a time.
                delete = ql.Delete(statement.sources, statement.condition)
                self._deletion(database, delete)(store)
            case ql.Delete() | ql.DropMeasurement():
                self._deletion(database, statement)(store)
            case _:
                return False
        return True

    def _expect_database(self, name: str) -> None:
        if self._meta.metastore.database(name) is None:
            raise StatementFailed(f"database not found: {name}")

    def _expect_shard(self, shard_id: ShardID) -> None:
        """Require the shard on some node; a cluster reports a missing one, a single server not."""
        clustered = bool(self._meta.metastore.data_nodes)
        if clustered and not any(shard_id in s.shards() for s in self._copies.everywhere()):
            raise StatementFailed("shard not found")

    def _command(self, statement: ql.Change) -> commands.Command | None:
        match statement:
            case ql.CreateDatabase():
                return self._create_database(statement)
            case ql.DropDatabase():
                return commands.DropDatabase(statement.name)
            case ql.CreateRetentionPolicy():
                check_name("retention policy", statement.name)
                _check_duration(statement.duration_ns)
                spec = commands.RetentionPolicySpec(
                    statement.name,
                    statement.duration_ns,
                    statement.shard_duration_ns or 0,
                    statement.replication,
                )
                return commands.CreateRetentionPolicy(statement.database, spec, statement.default)
            case ql.AlterRetentionPolicy():
                return commands.UpdateRetentionPolicy(
                    statement.database,
                    statement.name,
                    duration_ns=statement.duration_ns,
                    replica_n=statement.replication,
                    shard_group_duration_ns=statement.shard_duration_ns,
                    default=statement.default,
                )
            case ql.DropRetentionPolicy():
                return commands.DropRetentionPolicy(statement.database, statement.name)
            case ql.DropShard():
                return commands.DropShard(ShardID(statement.id))
            case ql.CreateContinuousQuery():
                return commands.CreateContinuousQuery(
                    statement.database, statement.name, statement.query
                )
            case ql.DropContinuousQuery():
                return commands.DropContinuousQuery(statement.database, statement.name)
            case ql.CreateUser():
                return self._create_user(statement)
            case ql.SetPassword():
                return commands.UpdateUser(statement.name, hashed(statement.password))
            case ql.DropUser():
                return commands.DropUser(statement.name)
            case ql.Grant():
                return commands.SetPrivilege(
                    statement.user, statement.database, statement.privilege
                )
            case ql.SetAdmin():
                return commands.SetAdminPrivilege(statement.user, statement.admin)
            case ql.Delete() | ql.DropSeries() | ql.DropMeasurement():
                return None

    def _create_user(self, statement: ql.CreateUser) -> commands.CreateUser | None:
        """Create a user; None: the same user with this password and rank exists."""
        users = {user.name: user for user in self._meta.metastore.users}
        there = users.get(statement.name)
        if there and there.admin == statement.admin and fits(statement.password, there.hash):
            return None
        return commands.CreateUser(statement.name, hashed(statement.password), statement.admin)

    def _create_database(self, statement: ql.CreateDatabase) -> commands.CreateDatabase:
        check_name("database", statement.name)
        asked = (statement.duration_ns, statement.replication, statement.shard_duration_ns)
        if not statement.policy and asked == (None, None, None):
            return commands.CreateDatabase(statement.name)
        _check_duration(statement.duration_ns or 0)
        nodes = len(self._meta.metastore.data_nodes)
        spec = commands.RetentionPolicySpec(
            statement.policy or DEFAULT_POLICY,
            statement.duration_ns or 0,
            statement.shard_duration_ns or 0,
            min(max(nodes, 1), MAX_AUTOGEN_REPLICA_N)
            if statement.replication is None
            else statement.replication,
        )
        check_name("retention policy", spec.name)
        return commands.CreateDatabase(statement.name, spec)


def _check_duration(duration_ns: int) -> None:
    if 0 < duration_ns < HOUR_NS:
        raise StatementFailed("retention policy duration must be at least 1h0m0s")


def _remove(store: ShardStore, database: str, policy: str | None) -> None:
    for shard in store.shards().values():
        if shard.database == database and policy in (None, shard.policy):
            store.remove(shard.id)
