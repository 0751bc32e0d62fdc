"""Every way in which a TSM file can be less than whole is found by check_tsm."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import BadMagic, BlockUndecodable, IndexOutOfOrder, TSMError
from resources.tsm.check import check_few, check_tsm
from resources.tsm.check_many import check_many
from resources.tsm.layout import ENTRY, FOOTER, HEADER, MAX_BLOCK_POINTS
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource, index_start
from tests.resources.tsm.checking import EVEN, KEY, SMALL, checked
from tests.resources.tsm.points import stored
from tests.resources.tsm.writing import (
    T0,
    block,
    even_times,
    packed_times,
    raw_integers,
    raw_times,
    tsm_file,
    uvarint,
    words,
)

EVERYTHING = stored("everything.tsm")


def with_entry(data: bytes, old: tuple[int, ...], new: tuple[int, ...]) -> bytes:
    assert data.count(ENTRY.pack(*old)) == 1
    return data.replace(ENTRY.pack(*old), ENTRY.pack(*new))


@pytest.mark.parametrize("cut", range(len(SMALL)))
def test_a_file_cut_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(TSMError):
        checked(SMALL[:cut])
    with pytest.raises(TSMError):
        list(TSMFile(BytesSource(SMALL[:cut])).index())


def test_a_flipped_bit_is_noticed_wherever_something_depends_on_it() -> None:
    blind = set[int]()
    tsm = TSMFile(BytesSource(SMALL))
    for key in tsm.index():
        at = SMALL.index(key.key, tsm.index_start)
        # Nothing else in the file repeats the names; keys out of order are noticed all the same.
        blind |= set(range(at, at + len(key.key)))
    for at in range(len(SMALL)):
        for bit in range(8):
            damaged = bytearray(SMALL)
            damaged[at] ^= 1 << bit
            if at in blind:
                with suppress(TSMError):
                    checked(bytes(damaged))
            else:
                with pytest.raises(TSMError):
                    checked(bytes(damaged))


@pytest.mark.fault(95)
@settings(max_examples=150)
@given(st.data())
def test_a_damaged_file_is_refused_or_whole_and_takes_little_memory(data: st.DataObject) -> None:
    damaged = bytearray(EVERYTHING)
    index = TSMFile(BytesSource(EVERYTHING)).index_start
    places = st.integers(0, len(damaged) - 1) | st.integers(index, len(damaged) - 1)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(places)
        match data.draw(st.sampled_from(["set", "delete", "insert", "copy"])):
            case "set":
                damaged[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case "delete":
                del damaged[at : at + data.draw(st.integers(1, 40))]
            case "insert":
                damaged[at:at] = data.draw(st.binary(max_size=40))
            case _:
                damaged[at : at + 28] = damaged[index : index + 28]
    if data.draw(st.booleans()):
        damaged[-8:] = FOOTER.pack(index)
    tracemalloc.start()
    with suppress(TSMError):
        checked(bytes(damaged))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20
    with suppress(TSMError):
        tsm = TSMFile(BytesSource(damaged))
        for key in tsm.index():
            for entry in key.entries:
                tsm.block(key, entry)


@pytest.mark.fault(95)
@settings(max_examples=300)
@given(st.data())
def test_a_block_with_a_right_crc_and_wrong_bytes_is_refused_or_counted(
    data: st.DataObject,
) -> None:
    kind, times = data.draw(st.integers(0, 5)), data.draw(st.binary(max_size=30))
    head = data.draw(st.sampled_from([uvarint(len(times)), b"\xff" * 9 + b"\x01", b"\xff\x7f"]))
    body = bytes([kind]) + head + times + data.draw(st.binary(max_size=30))
    low = int.from_bytes(times[1:9], signed=True) if len(times) >= 9 else 0
    file = tsm_file({KEY: [(low, data.draw(st.integers(low, 2**63 - 1)), body)]})
    with suppress(TSMError):
        assert 1 <= (checked(file).points or 0) <= MAX_BLOCK_POINTS


def one(low: int, high: int, body: bytes) -> bytes:
    return tsm_file({KEY: [(low, high, body)]})


ENTRY_1 = (T0, T0 + 20, 5, len(EVEN) + 4)
ENTRY_2 = (T0, T0 + 20, 5 + len(EVEN) + 4, len(EVEN) + 4)
TWO_KEYS = tsm_file({key: [(T0, T0 + 20, EVEN)] for key in (b"a#!~#v", b"b#!~#v")})
TWO_ENTRIES = tsm_file({KEY: [(T0, T0 + 20, EVEN), (T0, T0 + 20, EVEN)]})
VALUES = raw_integers([1, 2, 3])


@pytest.mark.fault(95)
@pytest.mark.parametrize(
    ("data", "error", "complaint"),
    [
        (b"", TSMError, "0 bytes, too few"),
        (b"\x16\xd1\x16\xd1\x02" + SMALL[5:], BadMagic, "begins with 16d116d102"),
        (b"PK\x03\x04", BadMagic, "begins with 504b0304"),
        (HEADER + FOOTER.pack(5), TSMError, "the index, at offset 5, is empty"),
        (SMALL[:-8] + FOOTER.pack(465), TSMError, "puts the index at 465, outside"),
        (SMALL[:-8] + FOOTER.pack(2**64 - 1), TSMError, "outside the file"),
        (SMALL[:-8] + FOOTER.pack(462), TSMError, "the key at offset 462 reaches beyond"),
        (SMALL[:-8] + b"\0" + SMALL[-8:], TSMError, "the key at offset .* reaches beyond"),
        (TWO_KEYS[:-9] + TWO_KEYS[-8:], TSMError, "the key at offset .* reaches beyond"),
        (
            TWO_KEYS[:-8] + b"\x00\x06c#!~#v\x01\x00\x00" + TWO_KEYS[-8:],
            TSMError,
            "'c#!~#v' has no blocks",
        ),
        (tsm_file({b"": [(T0, T0 + 20, EVEN)]}), TSMError, "empty key"),
        (tsm_file({b"m": [(T0, T0 + 20, EVEN)]}), TSMError, "lacks series"),
        (tsm_file({b"#!~#v": [(T0, T0 + 20, EVEN)]}), TSMError, "lacks series"),
        (one(T0, T0 + 20, b"\x05" + EVEN[1:]), TSMError, "unknown type 5, at offset"),
        (TWO_KEYS.replace(b"b#!~#v", b"a#!~#v"), IndexOutOfOrder, "'a#!~#v' again 'a#!~#v'"),
        (TWO_KEYS.replace(b"a#!~#v", b"c#!~#v"), IndexOutOfOrder, "'b#!~#v' after 'c#!~#v'"),
        (with_entry(TWO_KEYS, ENTRY_2, ENTRY_1), IndexOutOfOrder, "overlap.*'b#!~#v' at offset 5"),
        (
            TWO_KEYS.replace(b"\x00\x06b#!~#v\x01\x00\x01" + ENTRY.pack(*ENTRY_2), b""),
            IndexOutOfOrder,
            "no key has the block at offset 47",
        ),
        (
            with_entry(TWO_KEYS, ENTRY_2, (*ENTRY_2[:2], 4, 40)),
            IndexOutOfOrder,
            "'b#!~#v' at offset 4, 40 bytes: blocks are between 5",
        ),
        (
            with_entry(TWO_KEYS, ENTRY_2, (*ENTRY_2[:2], 2**64 - 20, 40)),
            IndexOutOfOrder,
            "blocks are between",
        ),
        (
            with_entry(TWO_KEYS, ENTRY_2, (*ENTRY_2[:3], 2**32 - 1)),
            IndexOutOfOrder,
            "4294967295 bytes: blocks are between",
        ),
        (with_entry(TWO_KEYS, ENTRY_1, (*ENTRY_1[:3], 3)), IndexOutOfOrder, "3 bytes: blocks"),
        (one(T0 + 20, T0, EVEN), IndexOutOfOrder, "are not in order"),
        (
            with_entry(TWO_ENTRIES, ENTRY_2, (T0 - 1, *ENTRY_2[1:])),
            IndexOutOfOrder,
            "at offset 47: times .* not in order",
        ),
        (one(T0 + 1, T0 + 20, EVEN), BlockUndecodable, "first time is not the index's"),
        (one(T0, T0 + 21, EVEN), BlockUndecodable, "last time is not the index's"),
        (
            one(T0, T0 + 1, block(1, packed_times(T0), raw_integers([1]))),
            BlockUndecodable,
            "last time is not the index's",
        ),
        (one(T0, T0, block(1, b"\x40" + words([T0]), VALUES)), BlockUndecodable, "unknown encod"),
        (one(T0, T0, block(1, raw_times([T0]) + b"\0", VALUES)), BlockUndecodable, "inside a word"),
        (one(T0, T0, block(1, b"\x20" + words([T0]) + b"\x01", VALUES)), BlockUndecodable, "cut"),
        (
            one(T0, T0, block(1, b"\x20" + words([T0]) + b"\x81\x81", VALUES)),
            BlockUndecodable,
            "cut",
        ),
        (
            one(T0, T0, block(1, even_times(T0, 1, 3) + b"\0", VALUES)),
            BlockUndecodable,
            "do not end where they should|timestamps end at byte 11 of 12",
        ),
        (
            one(T0, T0, block(1, even_times(T0, 0, 0), VALUES)),
            BlockUndecodable,
            "no points|0 timestamps, where 1 to",
        ),
        (
            one(T0, T0, block(1, even_times(T0, 0, 2**62), VALUES)),
            BlockUndecodable,
            "more than 1000000|where 1 to 1000000",
        ),
        (one(T0, T0, block(1, b"\x10", VALUES)), BlockUndecodable, "impossible length"),
        (one(0, 0, block(1, b"\x10", bytes(9))), BlockUndecodable, "impossible length"),
        (
            one(T0, T0, b"\x01" + uvarint(2**64 - 1) + VALUES),
            BlockUndecodable,
            "impossible length",
        ),
        (one(T0, T0, b"\x01" + b"\xff" * 30), BlockUndecodable, "impossible length"),
        (
            one(T0, T0 + 20, block(1, even_times(T0, 10, 3), b"")),
            BlockUndecodable,
            "impossible length",
        ),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    data: bytes, error: type[TSMError], complaint: str
) -> None:
    for way in (check_few, check_many):
        with pytest.raises(error, match=complaint) as caught:
            way(BytesSource(data), index_start(BytesSource(data)), blocks=True)
        assert type(caught.value) is error
    with pytest.raises(error, match=complaint):
        check_tsm(BytesSource(data))


def test_evenly_spaced_times_wrap_around_as_the_server_s_do() -> None:
    for step, n, last in ((2**64 - 5, 3, T0 - 10), (2**63, 3, T0), (5, 3, T0 + 10)):
        low, high = min(T0, last), max(T0, last)
        data = one(low, high, block(1, even_times(T0, step, n), VALUES))
        if low == T0:
            assert checked(data).points == n
        else:
            with pytest.raises(BlockUndecodable, match="first time"):
                checked(data)
    wrapped_to_nothing = block(1, even_times(T0, 2**63, 3, exponent=1), VALUES)
    assert checked(one(T0, T0, wrapped_to_nothing)).points == 3
    with pytest.raises(BlockUndecodable, match="last time"):
        checked(one(T0, T0 + 1, wrapped_to_nothing))


def test_a_type_that_differs_between_index_and_block_is_refused() -> None:
    data = bytearray(TWO_KEYS)
    data[data.index(b"b#!~#v") + 6] = 4
    with pytest.raises(BlockUndecodable, match=r"'b#!~#v'.*type is not the index's"):
        checked(bytes(data))


def test_blocks_in_another_order_than_the_index_are_whole_all_the_same() -> None:
    swapped = TWO_KEYS.replace(ENTRY.pack(*ENTRY_1), b"-" * 28)
    swapped = swapped.replace(ENTRY.pack(*ENTRY_2), ENTRY.pack(*ENTRY_1))
    swapped = swapped.replace(b"-" * 28, ENTRY.pack(*ENTRY_2))
    assert checked(swapped) == checked(TWO_KEYS)
