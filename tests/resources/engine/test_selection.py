"""Which shards `-db`, `-rp` and `-shard` mean."""

from __future__ import annotations

import pytest

from resources.engine.selection import choose, not_there, select, split_present
from resources.errors import NothingMatches, UsageError
from resources.model import ShardGroupInfo, ShardID, ShardLocation
from resources.repository.formats.manifest import Limits
from tests import builders as b


def group(number: int, *shards: int, deleted: bool = False) -> ShardGroupInfo:
    deleted_at_ns = 1 if deleted else None
    return b.group(number, *shards, start_ns=number * 10, length_ns=10, deleted_at_ns=deleted_at_ns)


METASTORE = b.metastore(
    b.database("a", b.policy("r", group(1, 1, 2), group(2, 3)), b.policy("s", group(3, 4))),
    b.database("b", b.policy("r", group(4, 5), group(5, 6, deleted=True))),
    b.database("empty"),
)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), [1, 2, 3, 4, 5]),
        (Limits("a"), [1, 2, 3, 4]),
        (Limits("a", "s"), [4]),
        (Limits("a", "r", ShardID(3)), [3]),
        (Limits(shard_id=ShardID(5)), [5]),
        (Limits("empty"), []),
    ],
)
def test_limits_narrow_down_and_deleted_groups_do_not_count(
    limits: Limits, expected: list[int]
) -> None:
    assert [place.shard_id for place in select(METASTORE, limits)] == expected


@pytest.mark.parametrize(
    ("limits", "what", "hint"),
    [
        (Limits("c"), "'c' does not exist", "'a', 'b', 'empty'"),
        (Limits("a", "x"), "no retention policy 'x'", "'r', 's'"),
        (Limits("a", "s", ShardID(1)), "shard 1 does not exist in a.s", "restore -list"),
        (Limits(shard_id=ShardID(6)), "shard 6 does not exist", "show-shards"),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(limits: Limits, what: str, hint: str) -> None:
    with pytest.raises(NothingMatches, match=what) as caught:
        select(METASTORE, limits)
    assert hint in caught.value.hint


def test_a_policy_needs_its_database() -> None:
    with pytest.raises(UsageError, match="-rp needs -db"):
        select(METASTORE, Limits(policy="r"))


def test_planned_shards_are_reported_from_those_on_disk() -> None:
    places = select(METASTORE, Limits("a"))
    present, absent = split_present(places, {ShardID(1), ShardID(4), ShardID(99)})
    assert [place.shard_id for place in present] == [1, 4]
    assert [place.shard_id for place in absent] == [2, 3]


def at(database: str, policy: str, number: int) -> ShardLocation:
    return ShardLocation(database, policy, ShardID(number))


def test_a_shard_is_chosen_by_its_number_and_its_place() -> None:
    places = list(METASTORE.places())
    one = places[0]
    right = ShardLocation.of(one)
    wrong = at("elsewhere", one.policy, one.shard_id)
    assert choose(places, None) == places
    assert choose(places, {right, wrong}) == [one]
    for other in wrong, at(one.database, "elsewhere", one.shard_id):
        with pytest.raises(NothingMatches, match=f"shard {one.shard_id} belongs to"):
            choose(places, {other})


def test_shards_that_are_not_there_are_reported_from_those_that_are_elsewhere() -> None:
    one, *_ = places = list(METASTORE.places())
    wrong = at("a.b", "rp", one.shard_id)
    both = not_there([at("db", "rp", 98), at("db", "rp", 99), wrong], places, "; so")
    assert both.what == (
        f"shard {one.shard_id} belongs to policy 'r' of 'a', not to policy 'rp' of 'a.b'; "
        "the server has no shard 98, 99; so"
    )
    gone = not_there([at("db", "rp", number) for number in range(100, 120)], places)
    assert gone.what.endswith("108, 109 …")
    assert "restorable" in gone.hint
    assert not_there([], places).what == "no shard was requested"
