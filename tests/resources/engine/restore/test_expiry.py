"""Shards that the target's retention service would delete within minutes need a choice."""

from __future__ import annotations

import pytest

from resources.engine.restore.expiry import without_expired
from resources.errors import WouldExpire
from resources.model import ShardPlace
from tests import builders as b

NOW = 100 * b.DAY_NS
STORE = b.metastore(
    b.database("db", b.policy("autogen"), b.policy("week", keep_ns=b.WEEK_NS)),
)


def week(number: int, ended_days_ago: int) -> ShardPlace:
    end_ns = NOW - ended_days_ago * b.DAY_NS
    return b.place(number, policy="week", start_ns=end_ns - b.DAY_NS)


def kept(
    *found: ShardPlace, new_ns: int | None = None, skip: bool = False
) -> tuple[list[int], list[str]]:
    notes: list[str] = []
    left = without_expired(list(found), STORE, new_ns, skip=skip, now_ns=NOW, notes=notes)
    return [place.shard_id for place in left], notes


def test_a_shard_is_expired_once_its_end_and_the_duration_have_passed() -> None:
    assert kept(week(1, 7)) == ([1], [])
    with pytest.raises(WouldExpire, match=r"1 of 1 shard is older .* shard 1 of db\.week\)"):
        kept(week(1, 8))


def test_a_policy_that_keeps_points_for_ever_expires_nothing() -> None:
    old = b.place(1, start_ns=-(2**62))
    assert kept(old) == ([1], [])


def test_a_new_duration_counts_instead_of_the_policys() -> None:
    old = week(1, 30)
    assert kept(old, new_ns=0) == ([1], [])
    assert kept(old, new_ns=60 * b.DAY_NS) == ([1], [])
    with pytest.raises(WouldExpire):
        kept(b.place(1, start_ns=0), new_ns=b.DAY_NS)


def test_expired_shards_are_left_out_on_request_with_a_note() -> None:
    left, [note] = kept(week(1, 1), week(2, 9), week(3, 10), skip=True)
    assert left == [1]
    assert note.startswith("2 of 3 shards are older than their retention policy keeps points")
    assert "shard 2 of db.week" in note


def test_a_shard_of_a_policy_that_nobody_knows_is_kept() -> None:
    assert kept(b.place(1, policy="gone"), b.place(2, database="gone"))[0] == [1, 2]


def test_the_choices_are_named() -> None:
    with pytest.raises(WouldExpire) as refused:
        kept(week(1, 9))
    assert "-newduration 0s" in refused.value.hint
    assert "-skip-expired" in refused.value.hint
