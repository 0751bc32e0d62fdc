"""Which shard of a target can take the points of an archive."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resources.engine.restore.into_shard import find_shard
from resources.engine.restore.target_state import TargetState
from resources.errors import PlanError, TargetUnsuitable, WouldExpire
from resources.model import (
    Metastore,
    ShardGroupInfo,
    ShardID,
    ShardPlace,
)
from tests import builders as b

DAY_NS = b.DAY_NS


def group(*shards: int, day: int = 3, days: int = 1, owner: int | None = 4) -> ShardGroupInfo:
    owners = () if owner is None else (owner,)
    return b.group(1, *shards, start_ns=day * DAY_NS, length_ns=days * DAY_NS, owners=owners)


def source(group: ShardGroupInfo, at: int = 0) -> ShardPlace:
    return ShardPlace("db", "rp", group, group.shards[at])


def target(*groups: ShardGroupInfo, keep_days: int = 0, cluster: bool = True) -> Metastore:
    policy = b.policy("rp", *groups, keep_ns=keep_days * DAY_NS)
    return b.metastore(b.database("db", policy), nodes=(4,) if cluster else ())


def find(there: Metastore, old: ShardPlace, number: int = 50, database: str = "db") -> ShardPlace:
    return find_shard(
        TargetState("m:8091", there, 20 * DAY_NS),
        ShardID(number),
        old,
        database=database,
        policy="rp",
    )


def test_a_shard_of_the_same_time_and_place_is_found() -> None:
    there = target(group(50, 51))
    for at, number in enumerate((50, 51)):
        assert find(there, source(group(1, 2), at), number).shard_id == number


@pytest.mark.parametrize(
    ("old_n", "n", "at", "fits"),
    [
        (3, 3, 1, [1]),
        (3, 1, 0, [0, 1, 2]),  # all series are in the only shard
        (6, 3, 1, [1, 4]),  # the hash modulo 6 is 1 or 4 where modulo 3 it is 1
        (3, 6, 1, []),
        (2, 3, 0, []),
        (1, 2, 0, []),
    ],
)
def test_series_have_their_place_by_a_hash_modulo_the_number_of_shards(
    old_n: int, n: int, at: int, fits: list[int]
) -> None:
    there = target(group(*range(50, 50 + n)))
    for old_at in range(old_n):
        old = source(group(*range(1, 1 + old_n)), old_at)
        if old_at in fits:
            assert find(there, old, 50 + at)
        else:
            with pytest.raises(PlanError, match=f"is number {at + 1} of {n}"):
                find(there, old, 50 + at)


@pytest.mark.parametrize(
    ("here", "fits"),
    [
        (group(50), True),
        (group(50, day=2, days=5), True),
        (group(50, day=4), False),
        (group(50, day=2), False),
        (replace(group(50), start_time_ns=3 * DAY_NS + 1), False),
        (replace(group(50), end_time_ns=4 * DAY_NS - 1), False),
        (replace(group(50), truncated_at_ns=4 * DAY_NS - 1), False),
    ],
)
def test_a_shard_that_is_not_for_the_whole_time_is_refused(
    here: ShardGroupInfo, fits: bool
) -> None:
    if fits:
        assert find(target(here), source(group(1))).group == here
        return
    with pytest.raises(PlanError, match="holds points from 1970-01-04T00:00:00Z to"):
        find(target(here), source(group(1)))


def test_a_truncated_group_of_the_backup_ends_where_it_was_cut() -> None:
    cut = replace(group(1), truncated_at_ns=3 * DAY_NS + 5)
    here = replace(group(50), end_time_ns=3 * DAY_NS + 5)
    assert find(target(here), source(cut)).shard_id == 50


def test_a_number_that_no_live_group_has_is_refused() -> None:
    gone = replace(group(50), deleted_at_ns=7)
    for there in (target(gone), target()):
        with pytest.raises(TargetUnsuitable, match="m:8091 has no shard 50"):
            find(there, source(group(1)))


def test_a_shard_of_another_database_is_refused() -> None:
    with pytest.raises(PlanError, match=r"belongs to 'db'\.'rp', not to 'other'\.'rp'"):
        find(target(group(50)), source(group(1)), database="other")


def test_a_shard_that_would_be_deleted_is_refused() -> None:
    assert find(target(group(50), keep_days=17), source(group(1)))
    with pytest.raises(WouldExpire, match="is older than"):
        find(target(group(50), keep_days=15), source(group(1)))


def test_in_a_cluster_a_shard_has_owners_that_are_there() -> None:
    with pytest.raises(PlanError, match="has no owner"):
        find(target(group(50, owner=None)), source(group(1)))
    with pytest.raises(PlanError, match="node 7, which is no data node"):
        find(target(group(50, owner=7)), source(group(1)))
    assert find(target(group(50, owner=None), cluster=False), source(group(1)))
