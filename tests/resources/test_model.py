"""InfluxDB's nouns: which shards count, and which databases are a merge's own."""

from __future__ import annotations

import pytest

from resources.model import ShardLocation, UserInfo, is_passing
from tests import builders as b

STORE = b.metastore(
    b.database("a", b.policy("x", b.group(1, 1, 2), b.group(2, 3, deleted_at_ns=5)), b.policy("y")),
    b.database("b", b.policy("x", b.group(3, 4))),
)


def test_shards_of_deleted_groups_are_no_shards() -> None:
    assert [place.shard_id for place in STORE.places()] == [1, 2, 4]
    assert [ShardLocation.of(place).database for place in STORE.places()] == ["a", "a", "b"]


def test_a_database_is_found_by_its_exact_name() -> None:
    found = STORE.database("a")
    assert found is not None
    assert found.retention_policy("y") is not None
    assert found.retention_policy("z") is None
    assert STORE.database("A") is None


def test_a_metastore_without_some_databases_has_all_else() -> None:
    assert [db.name for db in STORE.without(["a"]).databases] == ["b"]
    assert STORE.without([]) is STORE
    assert STORE.without(["c"]).databases == STORE.databases


@pytest.mark.parametrize(
    ("name", "passing"),
    [
        ("shardkeeper_merge_0123456789ab", True),
        ("shardkeeper_merge_0123456789AB", False),
        ("shardkeeper_merge_0123456789a", False),
        ("shardkeeper_merge_0123456789abc", False),
        ("shardkeeper_merge_0123456789ab\n", False),
        ("my_shardkeeper_merge_0123456789ab", False),
    ],
)
def test_only_a_name_that_a_merge_makes_is_a_merges_own(name: str, passing: bool) -> None:
    assert is_passing(name) is passing


def test_a_password_hash_is_in_no_repr() -> None:
    assert "secret" not in repr(UserInfo("ann", "$2a$10$secret", admin=True))
