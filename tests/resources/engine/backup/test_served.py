"""Shards that no node serves: planned ahead, or not opened?"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from resources.engine.backup.served import could_be_planned, named, unserved
from resources.model import Metastore, ShardGroupInfo, ShardPlace
from tests import builders as b

WEEK = b.WEEK_NS


def group(number: int, week: int, *, weeks: int = 1, deleted: bool = False) -> ShardGroupInfo:
    shards, deleted_at_ns = ((), 1) if deleted else ((number,), None)
    return b.group(
        number,
        *shards,
        start_ns=week * WEEK,
        length_ns=weeks * WEEK,
        deleted_at_ns=deleted_at_ns,
    )


def metastore(groups: Sequence[ShardGroupInfo], *, duration_ns: int = 0) -> Metastore:
    return b.metastore(b.database("d", b.policy("r", *groups, keep_ns=duration_ns, group_ns=WEEK)))


def planned(one: ShardGroupInfo, groups: Sequence[ShardGroupInfo], **more: int) -> bool:
    now_ns = more.pop("now_ns", 100 * WEEK)
    store = metastore(groups, **more)
    return could_be_planned(one, store.databases[0].retention_policies[0], now_ns)


def test_the_group_after_the_newest_one_may_have_been_planned() -> None:
    first, second, third = group(1, 10), group(4, 11), group(9, 12)
    assert planned(second, [first, second])
    assert planned(third, [first, second, third])  # no writes: one after the other


def test_a_policys_first_group_was_made_by_a_write() -> None:
    first = group(1, 10)
    assert not planned(first, [first, group(2, 11)])


def test_a_group_after_a_gap_was_made_by_a_write() -> None:
    assert not planned(group(2, 12), [group(1, 10), group(2, 12)])


def test_a_group_before_those_that_were_there_was_made_by_a_write() -> None:
    groups = [group(1, 10), group(2, 11), group(3, 9)]
    assert not planned(groups[2], groups)
    older = [group(1, 8), group(2, 11), group(3, 9)]  # follows one, and another was newer
    assert not planned(older[2], older)


def test_groups_of_another_length_follow_in_the_last_moment_of_the_one_before() -> None:
    long, short = group(1, 8, weeks=4), group(2, 12)
    assert planned(short, [long, short])
    short, long = group(1, 9), group(2, 8, weeks=4)  # cut at multiples of the new length
    assert planned(long, [short, long])


def test_deleted_groups_count_and_forgotten_ones_may_have_been_there() -> None:
    one = group(2, 11)
    assert planned(one, [group(1, 10, deleted=True), one])
    assert planned(one, [one], duration_ns=20 * WEEK, now_ns=40 * WEEK)
    assert not planned(one, [one], duration_ns=20 * WEEK, now_ns=30 * WEEK)


def places(groups: Sequence[ShardGroupInfo]) -> list[ShardPlace]:
    return list(metastore(groups).places())


def test_a_shard_that_an_earlier_backup_knows_has_failed() -> None:
    groups = [group(1, 10), group(2, 11), group(3, 12)]
    found = unserved(places(groups)[1:], metastore(groups), lambda p: p.shard_id == 2, 0)
    assert [failed.shard_id for failed in found.failed] == [2]
    assert "Failed to open shard" in found.failed[0].why
    assert [place.shard_id for place in found.planned] == [3]


def test_a_shard_that_was_made_by_a_write_has_failed_although_no_backup_knows_it() -> None:
    groups = [group(1, 10), group(2, 11)]
    found = unserved(places(groups)[:1], metastore(groups), lambda _: False, 0)
    assert [failed.shard_id for failed in found.failed] == [1]


@pytest.mark.parametrize(("now", "begun"), [(10, 0), (11, 1), (30, 2)])
def test_planned_shards_are_named_once_they_have_begun(now: int, begun: int) -> None:
    message = named(places([group(2, 11), group(3, 12)]), now * WEEK)
    assert [f"shard {i} (d/r)" in message for i in (2, 3)] == [begun > 0, begun > 1]


def test_many_planned_shards_are_counted() -> None:
    message = named(places([group(i, i) for i in range(1, 10 + 6)]), 100 * WEEK)
    assert "and 5 more" in message
