"""Readings of a metastore are held against each other part by part."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resources.errors import BadReply
from resources.model import Metastore, ShardGroupInfo, UserInfo, UserPrivilege
from resources.protocol.meta import encode_metastore
from resources.protocol.meta_parts import MetastoreParts
from tests import builders as b

GRANTS = (UserPrivilege("a", 1), UserPrivilege("b", 2))
USER = UserInfo("ann", "hash", admin=False, privileges=GRANTS)
HOME = b.database("home", b.policy("week", b.group(1, 1), keep_ns=b.WEEK_NS))
STORE = b.metastore(HOME, users=(USER,))
LATER = b.metastore(HOME, b.database("new"), users=(USER,), index=10)


def home(group: ShardGroupInfo, *, keep_ns: int = b.WEEK_NS) -> Metastore:
    return replace(STORE, databases=(b.database("home", b.policy("week", group, keep_ns=keep_ns)),))


def parts(store: Metastore) -> MetastoreParts:
    return MetastoreParts.of(encode_metastore(store))


def between(middle: Metastore, before: Metastore = STORE, after: Metastore = LATER) -> bool:
    return parts(middle).is_between(parts(before), parts(after))


def test_a_reading_is_between_itself_and_itself() -> None:
    assert between(STORE, STORE, STORE)
    assert between(STORE)
    assert between(LATER)


def test_the_order_of_grants_differs_from_reading_to_reading() -> None:
    other = replace(STORE, users=(replace(USER, privileges=GRANTS[::-1]),))
    assert parts(other) == parts(STORE)


@pytest.mark.parametrize(
    "flipped",
    [
        replace(STORE, databases=(replace(HOME, name="hone"),)),
        replace(STORE, databases=(replace(HOME, default_retention_policy="weel"),)),
        home(b.group(1, 1), keep_ns=1),
        home(b.group(2, 1)),
        home(b.group(1, 2)),
        replace(STORE, databases=()),
        replace(STORE, users=()),
        replace(STORE, users=(replace(USER, admin=True),)),
        replace(STORE, users=(replace(USER, privileges=GRANTS[:1]),)),
        replace(STORE, cluster_id=6),
    ],
)
def test_what_no_neighbour_says_was_made_on_the_way(flipped: Metastore) -> None:
    assert not between(flipped)


def test_counters_only_grow() -> None:
    assert between(replace(STORE, index=10), STORE, replace(STORE, index=11))
    assert not between(replace(STORE, index=8))
    assert not between(replace(LATER, index=11))
    assert not between(replace(STORE, max_shard_id=98))
    assert not between(replace(STORE, max_node_id=1))


def test_a_part_moves_with_its_database() -> None:
    """The same policy in another database is another part."""
    elsewhere = b.metastore(replace(HOME, name="other"), users=(USER,))
    assert not between(elsewhere)


def test_unknown_fields_count() -> None:
    raw = encode_metastore(STORE)
    assert MetastoreParts.of(raw + b"\xa2\x06\x03abc") != MetastoreParts.of(raw)


def test_bytes_that_are_no_metastore_are_refused() -> None:
    with pytest.raises(BadReply):
        MetastoreParts.of(b"\xff\xff")
