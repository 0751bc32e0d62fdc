"""Executes the queries of one node and formats the reply of /query.

Source: influxdb query/executor.go, ExecuteQuery; coordinator/statement_executor.go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from resources.embedded.data.changes import Changes
from resources.embedded.data.copies import Copies
from resources.embedded.data.writes import PointsWriter
from resources.embedded.influxql import statements as ql
from resources.embedded.influxql.answers import answer, deletion, is_question, points_into
from resources.embedded.influxql.parser import parse
from resources.embedded.influxql.results import NOT_EXECUTED, Result, reply, written
from resources.embedded.meta.group import SharedMeta
from resources.embedded.server_errors import QueryUnparsable, StatementFailed
from resources.embedded.shards.store import ShardStore
from resources.errors import ShardkeeperError
from resources.model import ShardID

_PARSING = "error parsing query: "


class Executor:
    """Runs queries for one node; safe to share between threads."""

    def __init__(
        self, meta: SharedMeta, copies: Copies, store: ShardStore, writer: PointsWriter
    ) -> None:
        self._copies = copies
        self._store = store
        self._writer = writer
        self._changes = Changes(meta, copies, self._delete)

    def run(
        self, text: str, *, database: str = "", policy: str = "", epoch: str = ""
    ) -> Mapping[str, Any]:
        """Execute statements and return the reply's JSON; a failed statement is the last one.

        Args:
            text: statements separated by semicolons.
            database: the default database.
            policy: the default retention policy.
            epoch: the unit of times in the reply, as in `epoch=`.

        Raises:
            QueryUnparsable: the text does not parse; no statement was executed.
        """
        results: list[Result] = []
        failed = False
        for statement in parse(text):
            try:
                results.append(
                    NOT_EXECUTED if failed else self._result(statement, database, policy)
                )
            except ShardkeeperError as error:
                failed = True
                results.append(str(error))
        return reply(results, epoch)

    def run_here(self, text: str, database: str) -> None:
        """Carry out a statement's deletion on this node only, without the metadata.

        Raises:
            ShardkeeperError: the text is not a statement, or one that deletes nothing.
        """
        try:
            statements = parse(text)
        except QueryUnparsable as error:
            raise StatementFailed(error.what.removeprefix(_PARSING)) from None
        for statement in statements:
            if isinstance(statement, ql.DropShard) and not self._has(statement.id):
                raise StatementFailed("shard not found")
            if not self._changes.carry_out_on(self._store, statement, database):
                raise StatementFailed(f'"{text}" should not be executed across a cluster')

    def _result(self, statement: ql.Statement, database: str, policy: str) -> Result:
        if not is_question(statement):
            self._changes.carry_out(cast(ql.Change, statement), database)
            return []
        rows = answer(statement, self._copies, database, policy, time.time_ns())
        if isinstance(statement, ql.Select) and statement.into is not None:
            points = points_into(statement.into, rows)
            if points:
                self._writer.write(
                    statement.into.database or database, statement.into.policy, points
                )
            return written(len(points))
        return rows

    def _delete(
        self, database: str, statement: ql.Delete | ql.DropSeries | ql.DropMeasurement
    ) -> Callable[[ShardStore], None]:
        what = deletion(statement, self._copies, database, time.time_ns())

        def delete(store: ShardStore) -> None:
            there = store.shards()
            for shard_id in what.shards:
                if shard_id in there:
                    store.delete(shard_id, what.wanted, what.min_time_ns, what.max_time_ns)

        return delete

    def _has(self, shard_id: int) -> bool:
        return ShardID(shard_id) in self._store.shards()
