"""Is what the target made what it was sent? Neither an import nor its answer has a checksum.

A bit that flips on the way may become another duration, another default policy or another name,
and the target takes it. So what it has afterwards is read back, twice, and held against what was
sent: the database, its policies with all their figures, its shard groups with their shards. The
tests are test_made.py and tests/wire/test_flipped_import.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from resources.engine.restore.plan import DatabaseRestore
from resources.errors import BadReply, shown
from resources.model import (
    DatabaseInfo,
    Metastore,
    RetentionPolicyInfo,
    ShardGroupInfo,
    ShardID,
)

HINT = "what was sent was changed on the way: look at the network, then restore again"
SECOND_NS = 1_000_000_000
LEAST_GROUP_NS = 3600 * SECOND_NS
"""Statements cannot say less: a server makes an hour of it (services/meta, data.go)."""


class Expected(Struct, frozen=True):
    """A database as the target should have it."""

    name: str
    default_policy: str
    policies: tuple[RetentionPolicyInfo, ...]
    """With the names they have there; of groups only times and shards are compared."""
    exact: bool
    """Whether durations come as they were sent; statements keep whole seconds."""
    limits: bool
    """Whether the target knows write limits."""


def imported(sent: Metastore, database: DatabaseRestore, *, limits: bool) -> Expected:
    """What becomes of an import: everything as it is sent, under the new names."""
    found = sent.database(database.source.name)
    assert found is not None  # noqa: S101 - `trimmed` keeps it
    new = database.new_policy
    default = new or found.default_retention_policy
    return Expected(
        database.name,
        default,
        tuple(_named(rp, new or rp.name, rp.duration_ns) for rp in found.retention_policies),
        exact=True,
        limits=limits,
    )


def stated(database: DatabaseRestore, *, limits: bool) -> Expected:
    """What becomes of the statements that create a database without shards."""
    default = database.source.default_retention_policy
    new = database.new_policy
    kept = {rp.name for rp in database.policies}
    return Expected(
        database.name,
        (new or default) if default in kept else "",
        tuple(
            _named(rp, new or rp.name, database.durations.get(rp.name, rp.duration_ns), groups=())
            for rp in database.policies
        ),
        exact=False,
        limits=limits,
    )


def require_as_expected(
    expected: Expected, now: Metastore, ids: Mapping[ShardID, ShardID], address: str
) -> None:
    """Hold a target against what it was sent.

    Points that others write into the new database make more groups, which are theirs.

    Args:
        ids: by the number that was sent, which number each shard has there, as the target says.

    Raises:
        BadReply: it differs; the message says in what.
    """
    there = now.database(expected.name)
    if there is None:
        raise BadReply(
            f"{address}: says that it made {shown(expected.name)}, and does not have it", hint=HINT
        )
    different = next(_differences(expected, there, ids), "")
    if different:
        raise BadReply(
            f"{address}: {shown(expected.name)} is not there as it was sent: {different}", hint=HINT
        )


def _differences(
    expected: Expected, there: DatabaseInfo, ids: Mapping[ShardID, ShardID]
) -> Iterator[str]:
    default = there.default_retention_policy
    if expected.default_policy and default != expected.default_policy:
        yield f"its default policy is {shown(default)}, not {shown(expected.default_policy)}"
    for rp in expected.policies:
        found = there.retention_policy(rp.name)
        if found is None:
            yield f"policy {shown(rp.name)} is missing"
            continue
        for what, wanted, got in _figures(expected, rp, found):
            if wanted != got:
                yield f"policy {shown(rp.name)} has the {what} {got}, not {wanted}"
        groups = {tuple(shard.id for shard in g.shards): g for g in found.shard_groups}
        for group in rp.shard_groups:
            shards = tuple(ids.get(shard.id, ShardID(0)) for shard in group.shards)
            if shards not in groups or _times(groups[shards]) != _times(group):
                yield f"shard group {group.id} of policy {shown(rp.name)} has other times or shards"
    extra = sorted(
        {rp.name for rp in there.retention_policies} - {p.name for p in expected.policies}
    )
    if extra:
        yield f"it has the policy {shown(extra[0])}"


def _figures(
    expected: Expected, sent: RetentionPolicyInfo, found: RetentionPolicyInfo
) -> Iterator[tuple[str, int, int]]:
    unit = 1 if expected.exact else SECOND_NS
    yield "duration in ns", sent.duration_ns // unit * unit, found.duration_ns
    group_ns = sent.shard_group_duration_ns // unit * unit
    if expected.exact or group_ns >= LEAST_GROUP_NS:
        yield "shard group duration in ns", group_ns, found.shard_group_duration_ns
    replica_n = sent.replica_n if expected.exact else max(1, sent.replica_n)
    yield "replication factor", replica_n, found.replica_n
    if expected.limits:
        future, past = sent.future_write_limit_ns, sent.past_write_limit_ns
        yield "future write limit in ns", future // unit * unit, found.future_write_limit_ns
        yield "past write limit in ns", past // unit * unit, found.past_write_limit_ns


def _times(group: ShardGroupInfo) -> tuple[int, int, int | None, int | None]:
    return (
        group.start_time_ns,
        group.end_time_ns,
        group.deleted_at_ns,
        group.truncated_at_ns,
    )


def _named(
    rp: RetentionPolicyInfo,
    name: str,
    duration_ns: int,
    groups: tuple[ShardGroupInfo, ...] | None = None,
) -> RetentionPolicyInfo:
    return RetentionPolicyInfo(
        name,
        duration_ns,
        rp.shard_group_duration_ns,
        rp.replica_n,
        rp.shard_groups if groups is None else groups,
        future_write_limit_ns=rp.future_write_limit_ns,
        past_write_limit_ns=rp.past_write_limit_ns,
    )
