"""Two metastores say the same if they differ only in what servers write as they like."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from resources.errors import BadReply
from resources.model import Metastore, UserInfo, UserPrivilege
from resources.protocol.comparing import comparable
from resources.protocol.meta import encode_metastore
from tests import builders as b
from tests.resources.protocol.metastores import metastores


def store(**of_group: int) -> Metastore:
    group = replace(b.group(1, 7), **of_group)
    return b.metastore(b.database("db", b.policy("rp", group)))


def same(
    one: Metastore, other: Metastore, *, own_clocks: bool = False, timeless: bool = False
) -> bool:
    first, second = (
        comparable(encode_metastore(m), own_clocks=own_clocks, timeless=timeless)
        for m in (one, other)
    )
    return first == second


def test_the_order_of_a_users_grants_says_nothing() -> None:
    grants = (UserPrivilege("a", 1), UserPrivilege("b", 2))
    one, other = (
        b.metastore(users=(UserInfo("u", "h", admin=False, privileges=order),))
        for order in (grants, grants[::-1])
    )
    assert same(one, other)
    less = b.metastore(users=(UserInfo("u", "h", admin=False, privileges=grants[:1]),))
    assert not same(one, less)


def test_when_a_group_was_deleted_counts_only_by_one_clock() -> None:
    one, other, live = store(deleted_at_ns=5), store(deleted_at_ns=6), store()
    assert not same(one, other)
    assert same(one, other, own_clocks=True)
    assert not same(one, live, own_clocks=True)


def test_term_and_index_count_unless_they_are_left_out() -> None:
    one, later, elsewhere = b.metastore(), b.metastore(index=10), b.metastore(term=3)
    assert not same(one, later)
    assert not same(one, elsewhere)
    assert same(one, later, timeless=True)
    assert same(one, elsewhere, timeless=True)
    assert not same(one, b.metastore(cluster_id=6), timeless=True)


def test_a_field_that_no_version_explains_counts() -> None:
    raw = encode_metastore(b.metastore())
    assert comparable(raw) != comparable(raw + b"\xa2\x06\x03abc")


@settings(max_examples=20)
@given(metastores)
def test_any_metastore_says_the_same_at_another_index(one: Metastore) -> None:
    assert same(one, replace(one, index=0, term=0), timeless=True)


def test_what_is_no_metastore_is_refused() -> None:
    with pytest.raises(BadReply):
        comparable(b"\xff\xff")
