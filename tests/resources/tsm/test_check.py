"""What check_tsm counts in a whole file, and that it takes little memory."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import BlockChecksumMismatch, BlockUndecodable, IndexOutOfOrder
from resources.tsm.check import TSMFacts, check_tsm
from resources.tsm.index import Coverage
from resources.tsm.layout import ENTRY, FOOTER, HEADER
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource, FileSource
from tests.resources.tsm.checking import EVEN, SMALL, checked
from tests.resources.tsm.points import Name, Points, everything, far_apart, small, stored
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


@pytest.mark.parametrize("points", [small, everything, far_apart])
def test_the_counts_are_those_of_what_was_written(
    points: Callable[[], dict[Name, Points]],
) -> None:
    written = points()
    times = [time for values in written.values() for time, _ in values]
    data = stored(f"{points.__name__}.tsm")
    facts = checked(data)
    assert facts == TSMFacts(
        size_bytes=len(data),
        keys=len(written),
        series=len({name.series for name in written}),
        blocks=sum((len(values) + 999) // 1000 for values in written.values()),
        points=len(times),
        min_time_ns=min(times),
        max_time_ns=max(times),
    )


def test_structure_alone_counts_no_points_and_reads_no_blocks() -> None:
    damaged = bytearray(SMALL)
    damaged[100] ^= 1
    facts = checked(bytes(damaged), blocks=False)
    assert (facts.keys, facts.series, facts.blocks, facts.points) == (6, 3, 6, None)
    with pytest.raises(BlockChecksumMismatch, match=r"'m,k=a#!~#i' at offset 68"):
        checked(bytes(damaged))


def test_fields_of_one_series_are_neighbours_whatever_the_names() -> None:
    names = [b"a", b"a!", b"a,k=v", b'a"', b"a#", b"a$", b"b#!~"]
    keys = sorted(name + b"#!~#" + field for name in names for field in (b"", b"!", b"f", b"z#!~#"))
    facts = checked(tsm_file({key: [(T0, T0 + 20, EVEN)] for key in keys}))
    assert (facts.keys, facts.series) == (len(keys), len({key.split(b"#!~#")[0] for key in keys}))


@settings(max_examples=50)
@given(
    st.lists(
        st.lists(st.integers(0, 2**62), min_size=1, max_size=20, unique=True).map(sorted),
        min_size=1,
        max_size=6,
    ),
    st.randoms(use_true_random=False),
)
def test_points_are_counted_as_they_decode(series: list[list[int]], dice: Random) -> None:
    keys = {}
    for i, times in enumerate(series):
        step = dice.randrange(1, 1000)
        head = dice.choice(
            [
                (times[-1], raw_times(times)),
                (times[0] + 240, packed_times(times[0], [1 << 60, 1 << 60])),
                (times[0], packed_times(times[0])),
                (times[0] + 7 * step * 1000, even_times(times[0], step, 8, exponent=3)),
            ]
        )
        values = b"\x20" + words([0]) + uvarint(0) + uvarint(0)
        keys[b"m,n=%d#!~#v" % i] = [(times[0], head[0], block(1, head[1], values))]
    data = tsm_file(keys)
    facts = checked(data)
    tsm = TSMFile(BytesSource(data))
    counted = 0
    for key in tsm.index():
        body = data[key.entries[0].offset + 4 :]
        head = body[2 : 2 + body[1]]
        counted += {
            0x0: 1 + (len(head) - 9) // 8,
            0x1: 241 if len(head) > 9 else 1,
            0x2: 8,
        }[head[0] >> 4]
    assert facts.points == counted


def test_a_block_larger_than_a_window_is_counted_too() -> None:
    noise = Random(1).randbytes(700_000)
    big = block(3, even_times(T0, 10, 3), b"\x10" + noise)
    many = block(1, raw_times(range(T0, T0 + 100_000)), b"\x00" + bytes(8 * 100_000))
    keys = {
        b"a#!~#v": [(T0, T0 + 20, EVEN)],
        b"b#!~#v": [(T0, T0 + 20, big)],
        b"c#!~#v": [(T0, T0 + 99_999, many)],
        b"d#!~#v": [(T0, T0 + 20, EVEN)],
    }
    data = tsm_file(keys)
    assert checked(data).points == 100_009
    damaged = bytearray(data)
    damaged[500_000] ^= 1
    with pytest.raises(BlockChecksumMismatch, match=r"'b#!~#v' at offset"):
        checked(bytes(damaged))
    for wrong in ((T0 + 1, T0 + 20), (T0, T0 + 21)):
        with pytest.raises(BlockUndecodable, match=r"'b#!~#v'.*time is not the index's"):
            checked(tsm_file({**keys, b"b#!~#v": [(*wrong, big)]}))
    cut = block(3, b"", b"\x10" + noise)
    with pytest.raises(BlockUndecodable, match=r"one alone takes 9.*'b#!~#v'"):
        checked(tsm_file({**keys, b"b#!~#v": [(T0, T0 + 20, cut)]}))


@pytest.mark.fault(28)
def test_memory_stays_flat_however_large_file_and_index_are(tmp_path: Path) -> None:
    path = tmp_path / "large.tsm"
    body = block(3, even_times(T0, 10, 3), b"\x10" + bytes(300))
    with_checksum = zlib.crc32(body).to_bytes(4) + body
    n = 60_000
    with path.open("wb") as file:
        file.write(HEADER)
        file.writelines(with_checksum for _ in range(n))
        for i in range(n):
            key = b"measurement,host=a-rather-long-name-%06d#!~#field" % i
            file.write(len(key).to_bytes(2) + key + b"\x03\x00\x01")
            file.write(ENTRY.pack(T0, T0 + 20, 5 + i * len(with_checksum), len(with_checksum)))
        file.write(FOOTER.pack(5 + n * len(with_checksum)))
    with path.open("rb") as file:
        source = FileSource(file.fileno())
        tracemalloc.start()
        facts = check_tsm(source)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (facts.keys, facts.points) == (n, 3 * n)
    assert facts.size_bytes > 20 << 20
    assert peak < 4 << 20


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_pieces_tile_a_range_in_any_order(sizes: list[int], dice: Random) -> None:
    pieces: list[tuple[int, int]] = []
    for size in sizes:
        start = pieces[-1][1] if pieces else 5
        pieces.append((start, start + size))
    end = pieces[-1][1]
    dice.shuffle(pieces)
    whole, less = Coverage(5, end), Coverage(5, end)
    for piece in pieces:
        whole.add(*piece)
    whole.finish()
    for piece in pieces[1:]:
        less.add(*piece)
    with pytest.raises(IndexOutOfOrder, match=f"the block at offset {pieces[0][0]}"):
        less.finish()
    with pytest.raises(IndexOutOfOrder, match="overlap"):
        whole.add(*dice.choice(pieces))


def test_a_key_may_have_as_many_blocks_as_its_count_can_say() -> None:
    blocks = [(T0, T0, block(1, packed_times(T0), raw_integers([i]))) for i in range(65_535)]
    facts = checked(tsm_file({b"k" * 60_000 + b"#!~#v": blocks}))
    assert (facts.keys, facts.blocks, facts.points) == (1, 65_535, 65_535)
