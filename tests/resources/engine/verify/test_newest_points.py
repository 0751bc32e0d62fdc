"""What would be lost with the source, told from archives alone where they are enough."""

from __future__ import annotations

import pytest

from resources.engine.verify.newest_points import Newest, newest_points
from resources.model import ShardID, ShardPlace
from resources.repository.backup_set import Archive
from tests import builders as b

STORE = b.metastore()
S = 10**9


def saved(number: int, newest_ns: int | None) -> tuple[ShardID, Archive]:
    return ShardID(number), b.archive(number, b.details(min_time_ns=0, max_time_ns=newest_ns))


def found(
    places: list[ShardPlace], archives: dict[ShardID, Archive], *changed: int
) -> list[Newest]:
    return newest_points(None, STORE, places, archives, [ShardID(i) for i in changed])


def test_the_newest_point_of_a_policy_is_the_newest_in_its_archives() -> None:
    archives = dict([saved(1, 5 * S), saved(2, 9 * S), saved(3, None)])
    [one] = found([b.place(1), b.place(2), b.place(3)], archives)
    assert one == Newest("db", "autogen", 0, 9 * S, 9 * S)
    assert one.behind_s == 0


def test_of_shards_that_changed_nobody_knows_without_asking() -> None:
    [one] = found([b.place(1), b.place(2)], dict([saved(1, 5 * S)]), 2)
    assert (one.changed, one.saved_ns, one.source_ns) == (1, 5 * S, None)
    assert one.why == "the source was not queried over HTTP"
    assert one.behind_s is None


def test_archives_that_do_not_say_leave_it_unknown() -> None:
    theirs = {ShardID(1): b.archive(1)}
    for archives in ({}, theirs):
        [one] = found([b.place(1)], archives)
        assert (one.saved_ns, one.behind_s) == (None, None)


def test_policies_with_changed_shards_come_first_then_by_name() -> None:
    places = [
        b.place(1, database="b"),
        b.place(2, database="a", policy="y"),
        b.place(3, database="a", policy="x"),
        b.place(4, database="c"),
    ]
    names = [(one.database, one.policy) for one in found(places, {}, 4)]
    assert names == [("c", "autogen"), ("a", "x"), ("a", "y"), ("b", "autogen")]


@pytest.mark.parametrize(
    ("saved_ns", "source_ns", "behind"),
    [(5 * S, 7 * S, 2.0), (7 * S, 5 * S, 0.0), (None, 5, None), (5, None, None)],
)
def test_the_source_is_never_behind_its_archives(
    saved_ns: int | None, source_ns: int | None, behind: float | None
) -> None:
    assert Newest("db", "rp", 1, saved_ns, source_ns).behind_s == behind
