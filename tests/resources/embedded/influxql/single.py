"""One data node without a network: a store, a metastore, and statements that reach both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from resources.embedded.influxql import results
from resources.embedded.influxql.answers import answer, deletion, is_question, points_into
from resources.embedded.influxql.parser import parse
from resources.embedded.influxql.statements import (
    Delete,
    DropMeasurement,
    DropSeries,
    Select,
    Statement,
)
from resources.embedded.server_errors import StatementFailed
from resources.embedded.shards.files import KeyFilter
from resources.embedded.shards.line_protocol import parse_lines
from resources.embedded.shards.points import Point
from resources.embedded.shards.store import ShardStore
from resources.model import (
    DatabaseInfo,
    Metastore,
    RetentionPolicyInfo,
    ShardGroupID,
    ShardGroupInfo,
    ShardID,
    ShardInfo,
)
from resources.tsm.layout import BlockType
from resources.tsm.merge import SeriesPoints

DAY_NS = 86_400_000_000_000
WEEK_NS = 7 * DAY_NS
MONDAY_NS = 4 * DAY_NS
"""1970 began on a Thursday, and weeks begin on Mondays."""
NOW_NS = 1_795_000_000_000_000_000


class SingleNode:
    """A catalog over a store; every database has `autogen` with a shard a week."""

    def __init__(self, directory: Path) -> None:
        self.store = ShardStore(directory, clock=lambda: NOW_NS)
        self.databases: dict[str, dict[int, ShardID]] = {}
        self.n_shards = 0

    # --- Catalog --------------------------------------------------------------------------

    def metastore(self) -> Metastore:
        databases = tuple(
            DatabaseInfo(
                name,
                "autogen",
                (
                    RetentionPolicyInfo(
                        "autogen",
                        0,
                        WEEK_NS,
                        1,
                        tuple(
                            ShardGroupInfo(
                                ShardGroupID(shard_id),
                                start,
                                start + WEEK_NS,
                                None,
                                None,
                                (ShardInfo(shard_id),),
                            )
                            for start, shard_id in sorted(weeks.items())
                        ),
                    ),
                ),
            )
            for name, weeks in self.databases.items()
        )
        return replace(
            Metastore(0, 1, 0, (), (), (), (), 0, self.n_shards, self.n_shards), databases=databases
        )

    def keys(self, shard_id: ShardID) -> Mapping[bytes, BlockType]:
        return self.store.keys(shard_id)

    def points(
        self, shard_id: ShardID, wanted: KeyFilter | None, min_time_ns: int, max_time_ns: int
    ) -> Iterator[SeriesPoints]:
        return self.store.points(shard_id, wanted, min_time_ns, max_time_ns)

    # --- what a node does -----------------------------------------------------------------

    def create_database(self, name: str) -> None:
        self.databases.setdefault(name, {})

    def write(self, database: str, lines: str, precision: str = "ns") -> None:
        parsed = parse_lines(lines.encode(), now_ns=NOW_NS, precision=precision)
        assert not parsed.errors
        self.write_points(database, parsed.points)

    def write_points(self, database: str, points: list[Point]) -> None:
        weeks = self.databases[database]
        by_shard: dict[ShardID, list[Point]] = {}
        for point in points:
            start = point.time_ns - (point.time_ns - MONDAY_NS) % WEEK_NS
            if start not in weeks:
                self.n_shards += 1
                weeks[start] = ShardID(self.n_shards)
                self.store.create(database, "autogen", weeks[start])
            by_shard.setdefault(weeks[start], []).append(point)
        for shard_id, some in by_shard.items():
            self.store.write(shard_id, some)

    def query(self, q: str, database: str, epoch: str = "") -> dict[str, Any]:
        found: list[results.Result] = []
        for statement in parse(q):
            failed = found and isinstance(found[-1], str)
            found.append(results.NOT_EXECUTED if failed else self._result(statement, database))
        return results.reply(found, epoch)

    def rows(self, q: str, database: str) -> list[list[Any]]:
        [result] = self.query(q, database, epoch="ns")["results"]
        assert "error" not in result, result
        return [row for series in result.get("series", []) for row in series["values"]]

    def _result(self, statement: Statement, database: str) -> results.Result:
        try:
            if isinstance(statement, Delete | DropSeries | DropMeasurement):
                gone = deletion(statement, self, database, NOW_NS)
                for shard_id in gone.shards:
                    self.store.delete(shard_id, gone.wanted, gone.min_time_ns, gone.max_time_ns)
                return []
            assert is_question(statement), statement
            rows = answer(statement, self, database, "", NOW_NS)
            if isinstance(statement, Select) and statement.into is not None:
                points = points_into(statement.into, rows)
                self.write_points(statement.into.database or database, points)
                return results.written(len(points))
        except StatementFailed as error:
            return str(error)
        return rows
