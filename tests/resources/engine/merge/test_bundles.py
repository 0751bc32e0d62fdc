"""Which shard groups of a backup are looked at together, and in which windows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from resources.engine.merge.bundles import (
    BackupGroup,
    Bundle,
    bundles_of,
    overlaps_another,
    span_of,
    windows_of,
)
from resources.engine.merge.slices import MAX_INT64, MIN_INT64, Span
from resources.model import ShardGroupID
from tests import builders as b

ALWAYS = Span(MIN_INT64, MAX_INT64)


def group(
    number: int, start: int, end: int, *, rank: int = 0, cut: int | None = None
) -> BackupGroup:
    return BackupGroup(ShardGroupID(number), rank, "rp", "rp", Span(start, end), cut, ())


def live(*spans: tuple[int, int], group_ns: int = 0):
    groups = (b.group(i, start_ns=s, length_ns=e - s) for i, (s, e) in enumerate(spans, 50))
    return b.policy("rp", *groups, group_ns=group_ns)


def ids(bundles: Iterable[Bundle]) -> list[list[int]]:
    return [[one.id for one in bundle] for bundle in bundles]


def test_groups_that_share_no_live_group_are_merged_one_by_one() -> None:
    groups = [group(1, 0, 10), group(2, 10, 20)]
    assert ids(bundles_of(groups, live((0, 10), (10, 20)))) == [[1], [2]]


def test_groups_that_share_a_live_group_go_together() -> None:
    groups = [group(1, 0, 10), group(2, 10, 20), group(3, 20, 30)]
    assert ids(bundles_of(groups, live((5, 15)))) == [[1, 2], [3]]


def test_groups_that_will_share_one_go_together_though_there_is_none_yet() -> None:
    groups = [group(1, b.DAY_NS * 4, b.DAY_NS * 5), group(2, b.DAY_NS * 5, b.DAY_NS * 6)]
    assert ids(bundles_of(groups, live(group_ns=b.WEEK_NS))) == [[1, 2]]  # one week, from Monday on
    assert ids(bundles_of(groups, live(group_ns=b.DAY_NS))) == [[1], [2]]


def test_a_deleted_live_group_joins_nothing() -> None:
    gone = b.policy("rp", b.group(50, start_ns=5, length_ns=10, deleted_at_ns=1), group_ns=0)
    assert ids(bundles_of([group(1, 0, 10), group(2, 10, 20)], gone)) == [[1], [2]]


SPANS = st.tuples(st.integers(0, 30), st.integers(1, 9)).map(lambda t: (t[0], t[0] + t[1]))


@settings(max_examples=30)
@given(st.lists(SPANS, min_size=1, max_size=6), st.lists(SPANS, max_size=4))
def test_every_group_is_in_one_bundle_and_bundles_share_no_live_group(
    backup: list[tuple[int, int]], there: list[tuple[int, int]]
) -> None:
    groups = [group(i, s, e) for i, (s, e) in enumerate(backup, 1)]
    bundles = bundles_of(groups, live(*there))
    assert sorted(i for bundle in ids(bundles) for i in bundle) == [g.id for g in groups]
    for one, other in itertools.combinations(bundles, 2):
        for span in (Span(s, e) for s, e in there):
            sides = [any(g.span.overlaps(span) for g in side) for side in (one, other)]
            assert not all(sides)
        assert not any(x.span.overlaps(y.span) for x in one for y in other)


@settings(max_examples=30)
@given(st.lists(SPANS, min_size=1, max_size=4), st.lists(SPANS, max_size=3), SPANS)
def test_windows_cover_each_groups_time_once_and_within_them_nothing_changes(
    backup: list[tuple[int, int]], there: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    bundle = tuple(group(i, s, e) for i, (s, e) in enumerate(backup, 1))
    policy = live(*there)
    windows = windows_of(bundle, policy.shard_groups, Span(*asked))
    for at in range(asked[0], asked[1]):
        moment = Span(at, at + 1)
        here = [w for w in windows if w.span.overlaps(moment)]
        expected = {g.id for g in bundle if g.span.overlaps(moment)}
        assert len(here) == bool(expected)
        for window in here:
            assert {g.id for g in window.groups} == expected
            around = {g.id for g in policy.shard_groups if span_of(g).overlaps(moment)}
            assert {g.id for g in window.live} == around
    assert all(asked[0] <= w.span.start_ns < w.span.end_ns <= asked[1] for w in windows)


def test_further_cuts_are_edges_too() -> None:
    windows = windows_of((group(1, 0, 10),), (), ALWAYS, cuts=[4])
    assert [w.span for w in windows] == [Span(0, 4), Span(4, 10)]


def test_the_group_that_took_writes_last_comes_first() -> None:
    first, second = group(9, 0, 10, rank=0), group(3, 0, 10, rank=1)
    cut = group(1, 0, 10, rank=2, cut=5)
    [before, after] = windows_of((second, cut, first), (), ALWAYS)
    assert (before.span, [g.id for g in before.groups]) == (Span(0, 5), [9, 3, 1])
    assert (after.span, [g.id for g in after.groups]) == (Span(5, 10), [9, 3, 1])
    both_cut = (group(4, 0, 10, cut=5), group(7, 0, 10, cut=3))
    last = windows_of(both_cut, (), ALWAYS)[-1]
    assert [g.id for g in last.groups] == [7, 4]  # the later one was made after the earlier was cut


def test_a_statement_about_a_group_would_see_those_that_overlap_it() -> None:
    one, other, after = group(1, 0, 10), group(2, 9, 20), group(3, 20, 30)
    bundle = (one, other, after)
    assert [overlaps_another(g, bundle) for g in bundle] == [True, True, False]


def test_the_first_group_of_all_time_begins_with_time() -> None:
    """Its start lies before what 64 bits hold, and comes out of the metastore as a late one."""
    early = b.group(1, start_ns=MAX_INT64 - 5, length_ns=0)
    assert span_of(early).start_ns == MIN_INT64
    assert span_of(b.group(1, start_ns=5, length_ns=1)) == Span(5, 6)
