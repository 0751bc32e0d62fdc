from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import BadReply, PeerClosedEarly
from resources.protocol.stream import Parsing, StreamReader
from tests.resources.protocol.parsing import parse_all


def two_blocks(reader: StreamReader) -> Parsing[tuple[bytes, bytes]]:
    first = yield from reader.read_block("first", limit=1000)
    second = yield from reader.read_block("second", limit=1000)
    yield from reader.expect_eof()
    return first, second


def line(reader: StreamReader) -> Parsing[bytes]:
    return (yield from reader.read_line("line", limit=10))


def json_object(reader: StreamReader) -> Parsing[tuple[bytes, bytes]]:
    taken = yield from reader.read_json_object("object", limit=50)
    rest = b""
    while not (yield from reader.at_eof()):
        rest += yield from reader.read_exactly(1, "rest")
    return taken, rest


def block(data: bytes) -> bytes:
    return len(data).to_bytes(8, "big") + data


@given(st.binary(max_size=50), st.binary(max_size=50), st.integers(1, 120))
def test_blocks_come_out_as_they_went_in(first: bytes, second: bytes, step: int) -> None:
    assert parse_all(two_blocks, block(first) + block(second), step=step) == (first, second)


def test_a_cut_says_inside_what_and_how_far() -> None:
    with pytest.raises(PeerClosedEarly) as caught:
        parse_all(two_blocks, block(bytes(4)) + block(bytes(400))[:108], step=50)
    assert str(caught.value) == "reply ended inside second: 100 of 400 bytes"
    assert "log" in caught.value.hint


def test_nothing_at_all_is_called_empty() -> None:
    with pytest.raises(PeerClosedEarly, match=r"^empty reply$"):
        parse_all(two_blocks, b"", step=1)


@pytest.mark.parametrize("claimed", [1001, 2**31, 2**63, 2**64 - 1])
def test_a_length_beyond_the_limit_is_refused_before_memory_is_taken(claimed: int) -> None:
    wire = claimed.to_bytes(8, "big") + bytes(100)
    tracemalloc.start()
    with pytest.raises(BadReply, match=f"first claims {claimed} bytes, at most 1000"):
        parse_all(two_blocks, wire, step=len(wire))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 1_000_000


def test_what_follows_the_end_is_noticed() -> None:
    with pytest.raises(BadReply, match="goes on after its end"):
        parse_all(two_blocks, block(b"a") + block(b"b") + b"c", step=3)


@pytest.mark.parametrize("step", [1, 3, 100])
def test_a_line_ends_at_its_newline(step: int) -> None:
    assert parse_all(line, b"0123456789\nrest", step=step) == b"0123456789"


@pytest.mark.parametrize("step", [1, 100])
@pytest.mark.parametrize("wire", [b"0123456789a\n", b"0123456789abcdef"])
def test_a_line_has_a_limit(wire: bytes, step: int) -> None:
    with pytest.raises(BadReply, match="longer than 10 bytes"):
        parse_all(line, wire, step=step)


def test_a_line_without_its_newline_is_cut() -> None:
    with pytest.raises(PeerClosedEarly, match="inside line: 5 bytes and no newline"):
        parse_all(line, b"01234", step=2)


@pytest.mark.parametrize("step", [1, 2, 100])
@pytest.mark.parametrize(
    "text", [b"{}", b'{"a":{"b":"}"}}', b' \n{"a":"\\"}"}', b'{"a":"\\\\"}', b'{"a":[1,{"b":2}]}']
)
def test_an_object_ends_at_its_own_brace(text: bytes, step: int) -> None:
    taken, rest = parse_all(json_object, text + b"}tail", step=step)
    assert taken == text
    assert b"}tail".startswith(rest)


@pytest.mark.parametrize("text", [b"null", b"[{}]", b'"{}"', b"x{}", b"{" * 60, b" " * 60])
def test_what_is_no_object_is_refused_at_once(text: bytes) -> None:
    with pytest.raises(BadReply):
        parse_all(json_object, text, step=1)


@pytest.mark.parametrize("text", [b"", b"{", b'{"a', b'{"a":"}'])
def test_an_object_cut_short_is_noticed(text: bytes) -> None:
    with pytest.raises(PeerClosedEarly):
        parse_all(json_object, text, step=1)


def test_the_first_bytes_are_remembered() -> None:
    reader = StreamReader()
    for piece in (b"HTTP", b"/1.1 ", bytes(1000)):
        reader.feed(piece)
    assert reader.head[:9] == b"HTTP/1.1 "
    assert len(reader.head) == 256
