"""Writes the points of a line protocol body into their shards.

The time of a point decides its group, which is created if missing; a hash of its series decides
the shard in the group.

Source: influxdb coordinator/points_writer.go; services/meta/data.go, ShardFor;
models/points.go, HashID.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from resources.embedded.data.copies import Copies, WriteFailed
from resources.embedded.meta.group import SharedMeta
from resources.embedded.meta.shard_groups import covering_group
from resources.embedded.server_errors import PartialWrite, Refusal
from resources.embedded.shards.line_protocol import PRECISIONS_NS, parse_lines
from resources.embedded.shards.points import Point
from resources.errors import ShardkeeperError
from resources.model import (
    RetentionPolicyInfo,
    ShardGroupInfo,
    ShardID,
    ShardPlace,
)
from resources.protocol.commands import CreateShardGroup

FNV_OFFSET = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3
MAX_REMEMBERED = 100_000


class NoSuchDatabase(Refusal):
    """The database of the points does not exist (HTTP 404)."""


class NoSuchPolicy(Refusal):
    """The policy of the points does not exist (HTTP 500)."""


def series_hash(series: bytes) -> int:
    """FNV-1a of 64 bits over a series key."""
    value = FNV_OFFSET
    for byte in series:
        value = (value ^ byte) * FNV_PRIME & 0xFFFFFFFFFFFFFFFF
    return value


class PointsWriter:
    """Writes for one node; safe to share between threads."""

    def __init__(self, meta: SharedMeta, copies: Copies) -> None:
        self._meta = meta
        self._copies = copies
        self._hashes: dict[bytes, int] = {}

    def write_body(self, body: bytes, values: Mapping[str, str]) -> None:
        """Parse and write a body of /write; raises for bad lines after writing the others.

        Raises:
            NoSuchDatabase, NoSuchPolicy, WriteFailed: no point was written.
            Refusal: the request names no database, or some or all lines were not written.
            NoLeader: a group had to be created.
        """
        database, policy = values.get("db", ""), values.get("rp", "")
        if not database:
            raise Refusal("database is required")
        if self._meta.metastore.database(database) is None:
            raise NoSuchDatabase(f'database not found: "{database}"')
        precision = values.get("precision", "")
        if precision not in PRECISIONS_NS:
            raise Refusal(f'invalid precision "{precision}" (use n, u, ms, s, m or h)')
        lines = parse_lines(body, now_ns=time.time_ns(), precision=precision or "ns")
        if lines.points:
            self.write(database, policy, lines.points)
        if lines.error is not None:
            raise Refusal(lines.error)

    def write(self, database: str, policy: str, points: list[Point]) -> None:
        """Write points into their shards; "" is the default policy.

        Raises:
            PartialWrite: some points are older than the policy's duration.
            ShardkeeperError: as `write_body`.
        """
        rp = self._policy(database, policy)
        oldest_ns = time.time_ns() - rp.duration_ns if rp.duration_ns else -(2**63)
        young = [point for point in points if point.time_ns >= oldest_ns]
        by_shard: dict[ShardID, tuple[ShardPlace, list[Point]]] = {}
        group: ShardGroupInfo | None = None
        start_ns = end_ns = 0
        targets: list[list[Point]] = []
        for point in young:
            time_ns = point.time_ns
            if group is None or not start_ns <= time_ns < end_ns:
                group = self._group(database, rp.name, time_ns)
                start_ns, end_ns = group.start_time_ns, group.end_time_ns
                if group.truncated_at_ns is not None:
                    end_ns = min(end_ns, group.truncated_at_ns)
                targets = [
                    by_shard.setdefault(
                        shard.id, (ShardPlace(database, rp.name, group, shard), [])
                    )[1]
                    for shard in group.shards
                ]
            if len(targets) == 1:
                targets[0].append(point)
            else:
                targets[self._hash(point.series) % len(targets)].append(point)
        refused = [
            error
            for place, its in by_shard.values()
            if its and (error := self._write_shard(place, its)) is not None
        ]
        if len(young) < len(points):
            refused.append(PartialWrite("points beyond retention policy", len(points) - len(young)))
        if refused:
            raise PartialWrite(refused[0].reason, sum(error.dropped for error in refused))

    def _write_shard(self, place: ShardPlace, points: list[Point]) -> PartialWrite | None:
        try:
            self._copies.write(place, points)
        except PartialWrite as error:
            return error
        return None

    def _hash(self, series: bytes) -> int:
        known = self._hashes.get(series)
        if known is None:
            if len(self._hashes) > MAX_REMEMBERED:
                self._hashes.clear()
            known = self._hashes[series] = series_hash(series)
        return known

    def _group(self, database: str, policy: str, time_ns: int) -> ShardGroupInfo:
        for created in (False, True):
            group = covering_group(self._policy(database, policy), time_ns)
            if group is not None and group.shards:
                return group
            if not created:
                try:
                    self._meta.execute(CreateShardGroup(database, policy, time_ns))
                except ShardkeeperError as error:
                    raise WriteFailed(str(error)) from error
        raise WriteFailed("write failed")

    def _policy(self, database: str, policy: str) -> RetentionPolicyInfo:
        db = self._meta.metastore.database(database)
        if db is None:
            raise NoSuchDatabase(f'database not found: "{database}"')
        rp = db.retention_policy(policy or db.default_retention_policy)
        if rp is None:
            raise NoSuchPolicy(
                f"retention policy not found: {policy or db.default_retention_policy}"
            )
        return rp
