"""Tombstone files of all four versions, whole, cut and hostile."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import TSMError
from resources.tsm import tombstone
from resources.tsm.source import BytesSource
from resources.tsm.tombstone import (
    MAX_TIME_NS,
    MIN_TIME_NS,
    V2,
    V3,
    V4,
    Tombstone,
    iter_tombstones,
    parse_tombstones,
    sound_tombstones,
)
from tests.resources.tsm.points import T0, S, stored

REAL = stored("deleted.tombstone")

# Two records, as influxd 1.6.7 wrote them.
WIRE = bytes.fromhex(
    "00001504 1f8b08000000000000ff"
    "626060e0cad5c9b64d5456ac534e6b608000"
    "3163 67aeba451fffc36493b0ca0202 0000ffff 13315221 3c000000"
)

RECORDS = [
    Tombstone(b"m,k=a#!~#f", MIN_TIME_NS, MAX_TIME_NS),
    Tombstone(b"m,k=b#!~#f", T0, T0 + 5),
    Tombstone(b"m,k=a#!~#f", 5, 4),
]


def encoded(records: Sequence[Tombstone]) -> bytes:
    return b"".join(
        struct.pack(">I", len(key)) + key + struct.pack(">qq", low, high)
        for key, low, high in records
    )


def zipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def test_the_records_of_a_real_file_are_read() -> None:
    assert parse_tombstones(WIRE) == (
        Tombstone(b"m,k=a#!~#f", MIN_TIME_NS, 1599696004999999999),
        Tombstone(b"m,k=b#!~#f", MIN_TIME_NS, 1599696004999999999),
    )


def test_each_deletion_of_a_real_file_is_a_gzip_member() -> None:
    assert REAL.count(b"\x1f\x8b") == 4

    def both_fields(k: str, low: int, high: int) -> list[Tombstone]:
        return [Tombstone(f"d,k={k}#!~#{field}".encode(), low, high) for field in "fs"]

    assert list(parse_tombstones(REAL)) == [
        *both_fields("a", T0 + 50 * S, T0 + 100 * S),
        *both_fields("b", MIN_TIME_NS, MAX_TIME_NS),
        *both_fields("c", MIN_TIME_NS, T0 + 20 * S - 1),
        *both_fields("a", T0 + 290 * S, MAX_TIME_NS),
        *both_fields("c", T0 + 290 * S, MAX_TIME_NS),
    ]


@pytest.mark.parametrize(
    "data",
    [
        V2 + encoded(RECORDS),
        V3 + zipped(encoded(RECORDS)),
        V4 + zipped(encoded(RECORDS)),
        V4 + zipped(encoded(RECORDS[:1])) + zipped(encoded(RECORDS[1:])),
        V4 + b"".join(zipped(encoded([record])) for record in RECORDS),
        V4 + zipped(b"") + zipped(encoded(RECORDS)) + zipped(b""),
    ],
)
def test_all_versions_with_ranges_say_the_same(data: bytes) -> None:
    assert list(parse_tombstones(data)) == RECORDS


def test_the_first_version_lists_keys_that_are_gone_altogether() -> None:
    assert parse_tombstones(b"a,k=v#!~#f\nb#!~#f\r\n\nc#!~#f") == tuple(
        Tombstone(key, MIN_TIME_NS, MAX_TIME_NS) for key in (b"a,k=v#!~#f", b"b#!~#f", b"c#!~#f")
    )
    assert parse_tombstones(b"") == ()


def sound(data: bytes) -> list[Tombstone]:
    return list(sound_tombstones(BytesSource(data)))


def test_of_a_damaged_file_every_whole_deletion_is_read_and_no_other() -> None:
    """A record that a bit flipped in would delete points that were never deleted."""
    members = [zipped(encoded([record])) for record in RECORDS]
    whole = V4 + b"".join(members)
    begins = [len(V4) + sum(map(len, members[:i])) for i in range(len(members) + 1)]
    for at in range(len(V4), len(whole)):
        for bit in range(8):
            data = bytearray(whole)
            data[at] ^= 1 << bit
            harmed = max(i for i in range(len(members)) if begins[i] <= at)
            left = [record for i, record in enumerate(RECORDS) if i != harmed]
            # Some bits of a gzip header mean nothing; those of its checksum and data all do.
            assert sound(bytes(data)) in (left, RECORDS), (at, bit)


@pytest.mark.parametrize("at", range(4))
def test_a_file_whose_magic_number_is_damaged_is_refused_and_its_deletions_are_read(
    at: int,
) -> None:
    for version, records in ((V4, RECORDS), (V3, RECORDS), (V2, [])):
        body = encoded(RECORDS) if version == V2 else zipped(encoded(RECORDS))
        data = bytearray(version + body)
        data[at] ^= 0x40
        if at > 1:  # else nothing tells a list of keys from one of records that is not compressed
            with pytest.raises(TSMError, match="begins with"):
                parse_tombstones(bytes(data))
        assert sound(bytes(data)) == records


def test_what_looks_like_many_members_is_given_up_soon() -> None:
    assert sound(V4 + b"\x1f\x8b\x08\0" * 100_000) == []


@pytest.mark.parametrize("data", [V2, V4, V3 + zipped(b"")])
def test_a_file_may_hold_no_records(data: bytes) -> None:
    assert parse_tombstones(data) == ()


def test_many_small_members_are_read_in_their_order() -> None:
    records = [Tombstone(b"m,k=%d#!~#f" % i, i, i) for i in range(3000)]
    data = V4 + b"".join(zipped(encoded([record])) for record in records)
    assert list(parse_tombstones(data)) == records


def test_many_records_need_no_memory_to_walk() -> None:
    data = V4 + zipped(encoded([Tombstone(b"m,k=%06d#!~#f" % i, i, i) for i in range(20_000)]))
    tracemalloc.start()
    n = sum(1 for _ in iter_tombstones(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n == 20_000
    assert peak < 1 << 20


@pytest.mark.parametrize("data", [REAL, V2 + encoded(RECORDS), V3 + zipped(encoded(RECORDS))])
def test_a_file_cut_anywhere_is_refused_or_ends_between_deletions(data: bytes) -> None:
    whole = parse_tombstones(data)
    for cut in range(len(data)):
        with suppress(TSMError):
            less = parse_tombstones(data[:cut])
            # Nothing in the format tells a last batch that is missing altogether.
            assert cut <= 4 or data[cut : cut + 2] == b"\x1f\x8b" or data[:4] == V2
            assert less == whole[: len(less)]
            assert len(less) < len(whole)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"garbage", "neither tombstones nor a key at offset 0"),
        (b"a#!~#f\n\x00\x00\x15\x05", "at offset 7"),
        (V2 + encoded(RECORDS)[:-1], "end inside the record at byte 60"),
        (V2 + struct.pack(">I", 0) + bytes(16), "a key of 0 bytes in record at byte 0"),
        (
            V2 + encoded(RECORDS[:1]) + b"\xff" * 40,
            "a key of 4294967295 bytes in record at byte 30",
        ),
        (V2 + struct.pack(">I", 65_536) + bytes(70_000), "a key of 65536 bytes"),
        (V4 + b"not gzip", "at offset 4 are damaged"),
        (V4 + zipped(encoded(RECORDS)) + b"\0", "from offset 70 on are cut at 71"),
        (V4 + zipped(encoded(RECORDS))[:-1], "from offset 4 on are cut"),
        (V3 + zipped(b"") * 2, "bytes after the compressed tombstones, at offset 24"),
        (V4 + zipped(encoded(RECORDS))[:-5] + bytes(5), "are damaged"),
    ],
)
def test_a_broken_file_is_refused_with_its_place(data: bytes, complaint: str) -> None:
    with pytest.raises(TSMError, match=complaint):
        parse_tombstones(data)


@pytest.mark.fault(91)
@pytest.mark.parametrize("members", [1, 50])
def test_a_bomb_is_refused_early(members: int) -> None:
    record = encoded([Tombstone(b"m" * 60_000, 0, 0)])
    bomb = V4 + zipped(record * (40_000_000 // len(record) // members)) * members
    tracemalloc.start()
    with pytest.raises(TSMError, match="inflate to over"):
        for _ in iter_tombstones(bomb):
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_more_records_than_memory_should_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tombstone, "MAX_TOMBSTONES", 2)
    with pytest.raises(TSMError, match="over 2 tombstones"):
        parse_tombstones(V2 + encoded(RECORDS))
    assert len(parse_tombstones(V2 + encoded(RECORDS[:2]))) == 2


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from([REAL, WIRE, V2 + encoded(RECORDS)])))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(TSMError):
        parse_tombstones(bytes(damaged))
