"""TSMWriter: what it writes is whole, comes back, and is what a server would have written."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import BlockUndecodable, IndexOutOfOrder, TSMError
from resources.tsm.arrays import Ints
from resources.tsm.blocks import Values, encode_block
from resources.tsm.check import check_tsm
from resources.tsm.deletions import Deletions
from resources.tsm.layout import MAX_ENTRIES, BlockType
from resources.tsm.merge import content_digest, series_points
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource
from resources.tsm.tombstone import iter_tombstones
from resources.tsm.writer import MAX_FILE_BYTES, TSMWriter
from tests.resources.tsm.points import T0, stored
from tests.resources.tsm.writing import block, raw_integers, raw_times

KEY, LATER = b"m#!~#v", b"n#!~#v"
INTEGER = BlockType.INTEGER
FILES = ["small.tsm", "everything.tsm", "far_apart.tsm", "deleted.tsm"]

Written = tuple[BlockType, Ints, Values]


def whole_file(write: Callable[[TSMWriter], object]) -> bytes:
    out = bytearray()
    writer = TSMWriter(out.extend)
    write(writer)
    expected = writer.size_bytes
    assert writer.finish() == expected == len(out) == writer.size_bytes
    return bytes(out)


def times(*numbers: int) -> Ints:
    return np.array(numbers, dtype=np.int64)


def integers(*numbers: int) -> Ints:
    return np.array(numbers, dtype=np.int64)


def opened(data: bytes) -> TSMFile:
    return TSMFile(BytesSource(data))


@pytest.mark.parametrize("file", FILES)
def test_the_points_of_a_real_file_make_the_same_file(file: str) -> None:
    theirs = stored(file)

    def write(writer: TSMWriter) -> None:
        tsm = opened(theirs)
        for key in tsm.index():
            writer.write(key.key, key.type, *tsm.read(key.key))

    assert whole_file(write) == theirs


@pytest.mark.parametrize("file", FILES)
def test_the_blocks_of_a_real_file_make_the_same_file(file: str) -> None:
    theirs = stored(file)

    def write(writer: TSMWriter) -> None:
        for key in opened(theirs).index():
            for entry in key.entries:
                encoded = theirs[entry.offset + 4 : entry.offset + entry.size]
                writer.write_block(key.key, key.type, encoded, entry.min_time, entry.max_time)

    assert whole_file(write) == theirs


def test_a_file_without_its_deleted_points_holds_what_the_server_would_keep() -> None:
    deleted = Deletions(iter_tombstones(stored("deleted.tombstone")))
    files = [(opened(stored("deleted.tsm")), deleted)]

    def write(writer: TSMWriter) -> None:
        for series in series_points(files):
            writer.write(series.key, series.type, series.times, series.values)

    ours = whole_file(write)
    assert len(ours) < len(stored("deleted.tsm"))
    assert content_digest([(opened(ours), Deletions())]) == content_digest(files)


TIMES = st.lists(
    st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=40, unique=True
) | st.tuples(st.integers(-(10**18), 10**18), st.integers(1, 10**12), st.integers(1, 2300)).map(
    lambda even: [even[0] + i * even[1] for i in range(even[2])]
)

VALUES = {
    BlockType.FLOAT: (st.floats(allow_nan=False), np.float64),
    BlockType.INTEGER: (st.integers(-(2**63), 2**63 - 1), np.int64),
    BlockType.BOOLEAN: (st.booleans(), np.bool_),
    BlockType.UNSIGNED: (st.integers(0, 2**64 - 1), np.uint64),
}


@st.composite
def some_points(draw: st.DrawFn) -> Written:
    at = sorted(draw(TIMES))
    kind = draw(st.sampled_from(BlockType))
    if kind is BlockType.STRING:
        few = draw(st.lists(st.binary(max_size=200), min_size=1, max_size=30))
        return kind, times(*at), [few[i % len(few)] for i in range(len(at))]
    numbers, dtype = VALUES[kind]
    few = draw(st.lists(numbers, min_size=1, max_size=30))
    return kind, times(*at), np.resize(np.array(few, dtype=dtype), len(at))


@given(st.dictionaries(st.binary(min_size=1, max_size=20), some_points(), min_size=1, max_size=5))
def test_whatever_is_written_is_whole_and_comes_back(series: Mapping[bytes, Written]) -> None:
    keys = {b"m,k=" + name.replace(b"#", b"") + b"#!~#" + name: name for name in series}

    def write(writer: TSMWriter) -> None:
        for key in sorted(keys):
            writer.write(key, *series[keys[key]])

    data = whole_file(write)
    facts = check_tsm(BytesSource(data))
    all_times = [points[1] for points in series.values()]
    assert facts.keys == len(series)
    assert facts.points == sum(map(len, all_times))
    assert facts.min_time_ns == min(at[0] for at in all_times)
    assert facts.max_time_ns == max(at[-1] for at in all_times)
    tsm = opened(data)
    for found in tsm.index():
        kind, at, values = series[keys[found.key]]
        found_times, found_values = tsm.read(found.key)
        assert found.type is kind
        assert len(found.entries) == -(-len(at) // 1000)
        assert found_times.tolist() == at.tolist()
        if isinstance(values, list):
            assert found_values == values
        else:
            assert np.asarray(found_values).tobytes() == values.tobytes()


@given(st.lists(st.integers(1, 1500), min_size=1, max_size=4))
def test_a_key_may_be_written_in_several_calls(sizes: list[int]) -> None:
    at = np.arange(T0, T0 + sum(sizes), dtype=np.int64)

    def write(writer: TSMWriter) -> None:
        for first, behind in pairwise(np.cumsum([0, *sizes])):
            writer.write(KEY, INTEGER, at[first:behind], at[first:behind])
        writer.write(LATER, BlockType.BOOLEAN, at[:1], np.array([True]))

    data = whole_file(write)
    assert check_tsm(BytesSource(data)).points == sum(sizes) + 1
    found, values = opened(data).read(KEY)
    assert found.tolist() == np.asarray(values).tolist() == at.tolist()


@pytest.mark.parametrize(
    ("key", "kind", "at", "values", "error", "complaint"),
    [
        (b"a#!~#v", INTEGER, [99], [1], IndexOutOfOrder, "'a#!~#v' after 'm#!~#v'"),
        (KEY, INTEGER, [20], [1], IndexOutOfOrder, "times from 20 on, after 20"),
        (KEY, INTEGER, [5], [1], IndexOutOfOrder, "times from 5 on, after 20"),
        (KEY, BlockType.FLOAT, [30], [1.5], TSMError, "is INTEGER, and cannot become FLOAT"),
        (LATER, INTEGER, [], [], TSMError, "0 times and 0 values"),
        (LATER, INTEGER, [1, 2], [1], TSMError, "2 times and 1 values"),
        (LATER, INTEGER, [2, 1], [1, 2], IndexOutOfOrder, "not ascending"),
        (LATER, INTEGER, [1, 1], [1, 2], IndexOutOfOrder, "not ascending"),
        (LATER, INTEGER, [1], [True], TSMError, "INTEGER cannot be bool"),
        (LATER, BlockType.FLOAT, [1, 2], [1.0, np.nan], TSMError, "value 1 is NaN.*from its point"),
        (b"z", INTEGER, [1], [1], TSMError, "is not a series key"),
        (b"z#!~#" + bytes(65_536), INTEGER, [1], [1], TSMError, "over 65535 bytes"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_no_trace(
    key: bytes,
    kind: BlockType,
    at: Sequence[int],
    values: Sequence[float],
    error: type[TSMError],
    complaint: str,
) -> None:
    def write(writer: TSMWriter) -> None:
        writer.write(KEY, INTEGER, times(10, 20), integers(1, 2))

    def stumble(writer: TSMWriter) -> None:
        write(writer)
        with pytest.raises(error, match=complaint):
            writer.write(key, kind, times(*at), np.array(values))

    assert whole_file(stumble) == whole_file(write)


def test_a_nan_behind_a_thousand_good_points_leaves_no_block() -> None:
    values = np.append(np.zeros(1500), np.nan)
    out = bytearray()
    writer = TSMWriter(out.extend)
    with pytest.raises(TSMError, match=r"value 500 is NaN.*from its point 1000 on"):
        writer.write(KEY, BlockType.FLOAT, np.arange(1501, dtype=np.int64), values)
    assert not out


def test_a_file_without_keys_is_not_written() -> None:
    out = bytearray()
    writer = TSMWriter(out.extend)
    with pytest.raises(TSMError, match="without keys"):
        writer.finish()
    with pytest.raises(TSMError, match="is not a series key"):
        writer.write(b"", INTEGER, times(1), integers(1))
    assert not out


def test_nothing_follows_the_footer() -> None:
    writer = TSMWriter(bytearray().extend)
    writer.write(KEY, INTEGER, times(1), integers(1))
    writer.finish()
    with pytest.raises(TSMError, match="finished"):
        writer.write(LATER, INTEGER, times(1), integers(1))
    with pytest.raises(TSMError, match="finished"):
        writer.finish()


@pytest.mark.parametrize(
    ("kind", "encoded", "at", "error"),
    [
        (BlockType.FLOAT, block(1, raw_times([5, 6]), raw_integers([1, 2])), (5, 6), TSMError),
        (INTEGER, block(1, raw_times([5, 6]), raw_integers([1, 2])), (4, 6), BlockUndecodable),
        (INTEGER, block(1, raw_times([5, 6]), raw_integers([1, 2])), (5, 4), TSMError),
        (INTEGER, block(1, raw_times([5, 6]), b""), (5, 6), BlockUndecodable),
        (INTEGER, b"\x01\x40" + bytes(30), (0, 6), BlockUndecodable),
        (INTEGER, b"\x01" + b"\xff" * 30, (0, 6), BlockUndecodable),
        (INTEGER, b"", (0, 6), BlockUndecodable),
        (INTEGER, b"\x01", (0, 6), BlockUndecodable),
    ],
)
def test_a_block_that_contradicts_its_entry_is_not_copied(
    kind: BlockType, encoded: bytes, at: tuple[int, int], error: type[TSMError]
) -> None:
    out = bytearray()
    with pytest.raises(error):
        TSMWriter(out.extend).write_block(KEY, kind, encoded, *at)
    assert not out


def test_blocks_of_a_key_may_overlap_but_not_go_back() -> None:
    def write(writer: TSMWriter) -> None:
        for at in ([0, 100], [0, 50], [40, 60]):
            encoded = encode_block(INTEGER, times(*at), integers(*at))
            writer.write_block(KEY, INTEGER, encoded, at[0], at[1])
        encoded = encode_block(INTEGER, times(39, 99), integers(1, 2))
        with pytest.raises(IndexOutOfOrder, match="from 39 on after one from 40"):
            writer.write_block(KEY, INTEGER, encoded, 39, 99)
        with pytest.raises(IndexOutOfOrder, match="after 100"):
            writer.write(KEY, INTEGER, times(61), integers(1))
        # What one key held says nothing about the next.
        writer.write(LATER, INTEGER, times(-5), integers(1))

    assert check_tsm(BytesSource(whole_file(write))).points == 7


def test_a_key_has_65535_blocks_and_not_one_more() -> None:
    encoded = encode_block(INTEGER, times(T0), integers(1))

    def write(writer: TSMWriter) -> None:
        for _ in range(MAX_ENTRIES):
            writer.write_block(KEY, INTEGER, encoded, T0, T0)
        with pytest.raises(TSMError, match="65536 blocks in one file"):
            writer.write(KEY, INTEGER, times(T0 + 1), integers(1))
        writer.write(LATER, INTEGER, times(T0), integers(1))

    assert check_tsm(BytesSource(whole_file(write))).blocks == MAX_ENTRIES + 1


def test_the_block_that_passes_two_gib_is_the_last_one() -> None:
    large = block(3, raw_times([T0]), bytes((1 << 30) - 100))
    sizes: list[int] = []
    writer = TSMWriter(lambda data: sizes.append(len(data)))
    for key in (b"a#!~#v", b"b#!~#v"):
        writer.write_block(key, BlockType.STRING, large, T0, T0)
        assert not writer.full
    writer.write(b"c#!~#v", INTEGER, times(T0), integers(1))
    assert writer.size_bytes > MAX_FILE_BYTES - 100
    while not writer.full:
        last = times(T0 + writer.size_bytes)
        writer.write(b"c#!~#v", INTEGER, last, last)
    with pytest.raises(TSMError, match="after 2147483648 bytes"):
        writer.write(b"d#!~#v", INTEGER, times(T0), integers(1))
    assert MAX_FILE_BYTES < writer.finish() == sum(sizes) < MAX_FILE_BYTES + 100


def test_only_the_index_stays_in_memory() -> None:
    at = np.arange(10_000, dtype=np.int64) ** 2
    values = np.random.default_rng(1).integers(-(2**62), 2**62, 10_000)
    n_bytes = 0

    def sink(data: bytes | bytearray | memoryview) -> None:
        nonlocal n_bytes
        n_bytes += len(data)

    writer = TSMWriter(sink)
    tracemalloc.start()
    for i in range(40):
        writer.write(b"m,k=%03d#!~#v" % i, INTEGER, at, values)
    writer.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_bytes > 3 << 20
    assert peak < 1 << 20
