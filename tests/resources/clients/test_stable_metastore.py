"""A metastore counts once two readings of it agree; whatever bit flips in one is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

import pytest
from msgspec.structs import replace

from resources.clients.stable_metastore import MAX_READINGS, settled
from resources.errors import BadReply
from resources.model import DatabaseInfo, Metastore, UserInfo, UserPrivilege
from resources.protocol.meta import decode_metastore, encode_metastore
from tests.resources.protocol.vectors import METASTORE

KNOWN = decode_metastore(METASTORE)
GRANTS = (UserPrivilege("a", 1), UserPrivilege("b", 2), UserPrivilege("c", 3))


def read(readings: Iterable[bytes]) -> Callable[[], bytes]:
    return iter(readings).__next__


def settle(*readings: bytes) -> bytes:
    return settled(read(readings), "peer", sleep=lambda _: None)


def changed(now: Metastore, *names: str, index: int) -> Metastore:
    """With these databases and no others, as a server has it after some commands."""
    return replace(now, index=index, databases=tuple(DatabaseInfo(name, "") for name in names))


def test_two_equal_readings_are_enough() -> None:
    assert settle(METASTORE, METASTORE) == METASTORE


@pytest.mark.parametrize("at", range(len(METASTORE)))
def test_a_bit_that_flips_in_one_reading_is_never_taken(at: int) -> None:
    for bit in range(8):
        flipped = bytearray(METASTORE)
        flipped[at] ^= 1 << bit
        for readings in (
            (bytes(flipped), METASTORE, METASTORE),
            (METASTORE, bytes(flipped), METASTORE, METASTORE),
        ):
            try:
                assert settle(*readings) == METASTORE
            except BadReply:
                with pytest.raises(BadReply):
                    decode_metastore(bytes(flipped))


def test_privileges_may_come_in_any_order() -> None:
    def with_user(grants: tuple[UserPrivilege, ...]) -> bytes:
        user = UserInfo("reader", "$2a$10$", admin=False, privileges=grants)
        return encode_metastore(replace(KNOWN, users=(user,)))

    there = with_user(GRANTS)
    assert settle(there, with_user(GRANTS[::-1])) == with_user(GRANTS[::-1])
    fewer = with_user(GRANTS[:2])
    assert settle(there, fewer, there, there) == there


def test_while_others_create_and_drop_what_stays_is_confirmed_by_its_neighbours() -> None:
    names = [["a", "b"], ["a", "b", "c"], ["a", "c", "d"], ["a", "d", "e"]]
    readings = [
        encode_metastore(changed(KNOWN, *those, index=10 + at)) for at, those in enumerate(names)
    ]
    assert settle(*readings) == readings[1]


def test_a_change_and_a_flip_at_once_are_reported_apart() -> None:
    before = encode_metastore(changed(KNOWN, "a", index=10))
    after = encode_metastore(changed(KNOWN, "a", "b", index=11))
    for name in ("c", "q"):
        flipped = encode_metastore(changed(KNOWN, name, "b", index=11))
        assert settle(before, flipped, after, after) == after
        assert settle(flipped, before, after, after) == after
        assert settle(before, after, flipped, after, after) in (before, after)


def test_readings_that_never_agree_are_an_error() -> None:
    endless = (encode_metastore(changed(KNOWN, f"{n}", index=n)) for n in count())
    with pytest.raises(BadReply, match=f"peer: {MAX_READINGS} readings of the metastore") as caught:
        settled(read(endless), "peer", sleep=lambda _: None)
    assert caught.value.hint


def test_an_index_that_goes_back_is_confirmed_by_nobody() -> None:
    readings = [encode_metastore(replace(KNOWN, index=100 - n)) for n in range(MAX_READINGS)]
    with pytest.raises(BadReply, match="all differ"):
        settle(*readings)
