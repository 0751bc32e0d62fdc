"""Partition keys: readable, reversible, and accepted by Dagster whatever the names are."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.definitions.partitions.utils.base import (
    raise_error_on_invalid_partition_key_substring,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.partitions import ShardKey
from resources.errors import UsageError
from resources.model import ShardID

NAMES = st.text(max_size=12) | st.text(alphabet='./%|[], *"\\ ab2F', max_size=12)
KEYS = st.builds(ShardKey, NAMES, NAMES, st.integers(0, 2**64 - 1).map(ShardID))


@pytest.mark.parametrize(
    ("database", "policy", "key"),
    [
        ("telegraf", "autogen", "telegraf/autogen/4"),
        ("Größe 数", "two weeks", "Größe 数/two weeks/4"),
        ("a/b", "1|2", "a%2Fb/1%7C2/4"),
        ("a...b", "..", "a.%2E%2Eb/.%2E/4"),
        ("100%", 'q"', "100%25/q%22/4"),
        (" a  b ", "\n", "%20a %20b%20/%0A/4"),
        ("", "", "//4"),
    ],
)
def test_a_partition_is_named_after_its_database_policy_and_shard(
    database: str, policy: str, key: str
) -> None:
    assert str(ShardKey(database, policy, ShardID(4))) == key
    assert ShardKey.parse(key) == ShardKey(database, policy, ShardID(4))


@pytest.mark.fault(99)
@given(KEYS)
def test_every_key_leads_back_to_its_shard(key: ShardKey) -> None:
    assert ShardKey.parse(str(key)) == key


@pytest.mark.fault(99)
@given(KEYS, KEYS)
def test_two_shards_never_share_a_key(one: ShardKey, other: ShardKey) -> None:
    assert (str(one) == str(other)) == (one == other)


@given(KEYS)
def test_dagster_takes_every_key_and_no_form_reads_a_list_range_or_wildcard_into_it(
    key: ShardKey,
) -> None:
    raise_error_on_invalid_partition_key_substring([str(key)])
    assert not set(str(key)) & set('|[],*"\\')
    assert str(key) == str(key).strip()
    assert "  " not in str(key)
    assert str(key).isprintable()


@settings(max_examples=20)
@given(st.sets(KEYS, max_size=30))
def test_a_dagster_instance_keeps_every_key_as_it_is(keys: set[ShardKey]) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        written = [str(key) for key in keys]
        instance.add_dynamic_partitions("shards", written)
        assert sorted(instance.get_dynamic_partitions("shards")) == sorted(written)


@pytest.mark.parametrize(
    "text",
    [
        *("", "4", "telegraf", "telegraf/4", "a/b/c/4", "a/b/", "a/b/x", "a/b/-1", "a/b/04"),
        *("a/b/18446744073709551616", "%61/b/4", "a%2fb/c/4", "a%FF/b/4", "a%2/b/4", " a/b/4"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no shard's partition"):
        ShardKey.parse(text)
