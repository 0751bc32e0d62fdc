"""A damaged TSM file gives back everything that is whole in it, and nothing that is not."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from resources.errors import TSMError
from resources.tsm.check import check_tsm
from resources.tsm.damage import MAX_NAMED
from resources.tsm.deletions import Deletions
from resources.tsm.layout import FOOTER, BlockType
from resources.tsm.reader import TSMFile
from resources.tsm.rewrite import Rewrite
from resources.tsm.sound import SoundFile, salvaged
from resources.tsm.source import BytesSource
from resources.tsm.writer import TSMWriter

Found = dict[tuple[bytes, int], float]


def written(seed: int = 0) -> bytes:
    """A file of twelve keys, some of them with several blocks."""
    dice, out = np.random.default_rng(seed), bytearray()
    writer = TSMWriter(out.extend)
    for n in range(12):
        key = f"m{n:02},host=h{n % 3}#!~#f{n % 2}".encode()
        size = (1, 5, 30, 50)[n % 4]
        times = np.cumsum(dice.integers(1, 50, size)).astype(np.int64)
        for at in range(0, size, 20):
            part = slice(at, at + 20)
            writer.write(key, BlockType.FLOAT, times[part], dice.random(len(times[part])))
    writer.finish()
    return bytes(out)


def points(file: TSMFile) -> Found:
    found: Found = {}
    for key in file.index():
        for entry in key.entries:
            block = file.block(key, entry)
            values = np.asarray(block.values).tolist()
            found |= {(key.key, t): v for t, v in zip(block.times.tolist(), values, strict=True)}
    return found


def rewritten(file: SoundFile) -> bytes:
    out, rewrite = bytearray(), Rewrite(file, Deletions())
    left = rewrite.measure()
    if left.size_bytes:
        assert rewrite.write(out.extend) == left.size_bytes
    return bytes(out)


def index_start(data: bytes | bytearray) -> int:
    return FOOTER.unpack_from(data, len(data) - FOOTER.size)[0]


def test_a_whole_file_is_whole() -> None:
    data = written()
    file = SoundFile(BytesSource(data))
    assert points(file) == points(TSMFile(BytesSource(data)))
    assert file.damage.parts == file.damage.lost_bytes == 0
    assert file.facts == check_tsm(BytesSource(data))
    assert rewritten(file) == data


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_byte_costs_two_keys_at_most_and_invents_nothing(seed: int) -> None:
    data, dice = written(seed), Random(seed)
    whole, start = points(TSMFile(BytesSource(data))), index_start(data)
    places = [*dice.sample(range(start), 4), *dice.sample(range(start, len(data)), 16)]
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << dice.randrange(8)
        try:
            check_tsm(BytesSource(flipped))
        except TSMError as error:
            facts, damage = salvaged(BytesSource(flipped), error.what)
        else:
            continue  # a key that is another one now, and still in order
        file = SoundFile(BytesSource(flipped))
        got = points(file)
        strange = {key for (key, t), v in got.items() if whole.get((key, t)) != v}
        lost = {key for key, t in whole.keys() - got.keys()}
        assert damage.parts >= 1
        assert not strange or place >= start
        assert len(strange) <= 1
        assert len(lost) <= 2
        assert facts.points == len(got)
        assert check_tsm(BytesSource(rewritten(file))).points == len(got)


def _first_block(data: bytearray) -> None:
    data[15] ^= 1


def _header(data: bytearray) -> None:
    data[0] ^= 1


def _footer(data: bytearray) -> None:
    data[-2] ^= 1


def _length_of_first_key(data: bytearray) -> None:
    data[index_start(data) + 1] ^= 0x40


def _number_of_entries(data: bytearray) -> None:
    data[data.index(b"m03,host=h0#!~#f1", index_start(data)) + 19] ^= 0x04


def _type(data: bytearray) -> None:
    data[data.index(b"m03,host=h0#!~#f1", index_start(data)) + 17] ^= 0x02


def _offset(data: bytearray) -> None:
    entry = data.index(b"m03,host=h0#!~#f1", index_start(data)) + 20
    data[entry + 16 + 6] ^= 0x10


def _times(data: bytearray) -> None:
    entry = data.index(b"m03,host=h0#!~#f1", index_start(data)) + 20
    data[entry] ^= 0x80


def _order(data: bytearray) -> None:
    data[data.index(b"m03,host=h0#!~#f1", index_start(data))] = ord("z")


@pytest.mark.parametrize(
    ("break_it", "lost"),
    [
        (_first_block, {b"m00,host=h0#!~#f0"}),
        (_header, set[bytes]()),
        (_footer, set[bytes]()),
        (_length_of_first_key, {b"m00,host=h0#!~#f0"}),
        (_number_of_entries, set[bytes]()),
        (_type, set[bytes]()),
        (_offset, set[bytes]()),
        (_times, set[bytes]()),
        (_order, {b"m03,host=h0#!~#f1"}),
    ],
)
def test_what_can_be_reported_is_not_lost(
    break_it: Callable[[bytearray], None], lost: set[bytes]
) -> None:
    data = bytearray(written())
    whole = points(TSMFile(BytesSource(bytes(data))))
    break_it(data)
    with pytest.raises(TSMError) as found:
        check_tsm(BytesSource(data))
    _, damage = salvaged(BytesSource(data), found.value.what)
    got = points(SoundFile(BytesSource(data)))
    assert {key for key, _ in whole.keys() - got.keys()} == lost
    assert got.items() <= whole.items()
    assert damage.parts >= 1
    assert bool(damage.lost_bytes) is bool(lost)


def test_a_file_of_which_nothing_is_left_has_no_keys() -> None:
    for data in (b"", bytes(100), b"\xff" * 5000, written()[:-1200]):
        file = SoundFile(BytesSource(data))
        assert points(file) == {}
        assert rewritten(file) == b""
        assert salvaged(BytesSource(data), "why")[1].parts >= 1


def test_of_much_damage_the_first_parts_are_named_and_all_counted() -> None:
    out = bytearray()
    writer = TSMWriter(out.extend)
    for n in range(100):
        one = np.array([n], dtype=np.int64)
        writer.write(f"m{n:03}#!~#f".encode(), BlockType.FLOAT, one, np.array([1.0]))
    writer.finish()
    start = index_start(out)
    out[5:start] = bytes(start - 5)
    _, damage = salvaged(BytesSource(out), "why")
    assert damage.parts == 100
    assert len(damage.first) == MAX_NAMED
    assert damage.lost_bytes == start - 5
