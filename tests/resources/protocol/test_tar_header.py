"""Headers: one block where a name fits into it, three where it does not."""

from __future__ import annotations

import io
import tarfile

import pytest

from resources.protocol.tar import (
    BLOCK,
    END_MARKER,
    BadHeader,
    TarWalker,
    decode_header,
    encode_header,
    padding,
)

LONG = "L" * 120


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("telegraf/autogen/1/000000001-000000001.tsm", 1),
        (f"{LONG}/autogen/1/000000001-000000001.tsm", 1),
        (f"{LONG}/{'r' * 30}/1/000000001-000000001.tsm", 1),
        (f"{LONG}/{LONG}/1/000000001-000000001.tsm", 3),
        (f"{'d' * 255}/{'r' * 255}/18446744073709551615/000000001-000000001.tsm", 4),
        ("bäse/autogen/1/000000001-000000001.tsm", 3),
        ("l" * 101, 3),
    ],
)
def test_every_name_finds_a_place(name: str, blocks: int) -> None:
    header = encode_header(name, 3, 1_480_000_000)
    assert len(header) == blocks * BLOCK
    stream = header + b"abc" + padding(3) + END_MARKER
    walker = TarWalker()
    list(walker.feed(memoryview(stream)))
    walker.finish()
    assert [(member.name, member.size) for member in walker.members] == [(name, 3)]
    with tarfile.open(fileobj=io.BytesIO(stream)) as lenient:
        assert lenient.getnames() == [name]


def test_sizes_beyond_eleven_octal_digits_are_written_and_read() -> None:
    header = encode_header("big", 8**11, 0)
    walker = TarWalker()
    list(walker.feed(memoryview(header)))
    assert walker.members[0].size == 8**11
    assert walker.members[0].offset == 2 * BLOCK


@pytest.mark.parametrize(("size", "zeros"), [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)])
def test_padding_fills_the_block(size: int, zeros: int) -> None:
    assert padding(size) == bytes(zeros)


def test_numbers_may_be_blank() -> None:
    block = bytearray(encode_header("a", 0, 0))
    block[136:148] = b" " * 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert decode_header(bytes(block)).mtime_s == 0


def test_headers_without_magic_are_refused() -> None:
    block = bytearray(encode_header("a", 0, 0))
    block[257:265] = bytes(8)
    with pytest.raises(BadHeader, match="not a tar header"):
        decode_header(bytes(block))
