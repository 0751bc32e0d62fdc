"""What we write every gzip reads; what we read is whole, or refused."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import tracemalloc
import zlib
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import ArchiveCorrupt
from resources.repository.archives.gzip_stream import (
    EARLY_BYTES,
    MAX_EMPTY_MEMBERS,
    GzipReader,
    GzipWriter,
    Level,
)

LEVELS: tuple[Level, ...] = ("default", "full", "speedy", "none")
INNER = "20261122T095100Z.s1.tar"
DICE = random.Random(1)
NOISE = DICE.randbytes(600_000)
TEXT = b"".join(b"cpu,host=%d usage=%d\n" % (DICE.randrange(99), i) for i in range(30_000))
CONTENTS = {
    "nothing": b"",
    "a byte": b"a",
    "text": TEXT,
    "noise": NOISE,
    "both": TEXT[:300_000] + NOISE + TEXT + NOISE[:70_000] + TEXT[:10],
    "a whole stored block": NOISE[:65_535],
    "a stored block and a byte": NOISE[:65_536],
    "zeros": bytes(65_535 * 3),
    "a short text": TEXT[:20_000],
    "the longest that is held back": TEXT[:EARLY_BYTES],
    "a byte more": TEXT[: EARLY_BYTES + 1],
}


def compress(content: bytes, level: Level = "default", step: int = 1 << 18) -> bytes:
    out = bytearray()
    writer = GzipWriter(out.extend, level=level, filename=INNER)
    view = memoryview(content)
    for at in range(0, len(view), step):
        writer.write(view[at : at + step])
    writer.close()
    assert writer.size_bytes == len(content)
    assert writer.crc32 == zlib.crc32(content)
    return bytes(out)


def inflate(stored: bytes, max_bytes: int | None = None, chunk: int = 1 << 18) -> bytes:
    reader = GzipReader(io.BytesIO(stored).read, max_bytes=max_bytes)
    chunks = [bytes(view) for view in reader.read_chunks(chunk)]
    assert all(0 < len(view) <= chunk for view in chunks)
    content = b"".join(chunks)
    assert reader.size_bytes == len(content)
    return content


def refusal(stored: bytes, max_bytes: int | None = None) -> str:
    with pytest.raises(ArchiveCorrupt) as caught:
        inflate(stored, max_bytes)
    return caught.value.what


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("step", [1000, 32_768, 100_000, 1 << 18, 1 << 22])
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_python_and_we_read_what_we_write(content: bytes, step: int, level: Level) -> None:
    stored = compress(content, level, step)
    assert gzip.decompress(stored) == content
    assert inflate(stored, len(content)) == content
    assert len(stored) < len(content) * 1.001 + 200 + len(content) // step * 16


@pytest.mark.parametrize("level", LEVELS)
def test_gzip_1_reads_what_we_write(level: Level) -> None:
    stored = compress(CONTENTS["both"], level)
    done = subprocess.run(["gzip", "-dc"], input=stored, capture_output=True, check=True)
    assert done.stdout == CONTENTS["both"]
    assert done.stderr == b""
    subprocess.run(["gzip", "-t"], input=stored, check=True)


def test_the_header_is_that_of_influxd_without_its_odd_time() -> None:
    stored = compress(b"")
    assert stored[:10] == bytes.fromhex("1f8b0808 00000000 00ff")
    assert stored[10:].startswith(INNER.encode() + b"\0")


def test_noise_is_stored_and_text_is_not() -> None:
    assert NOISE[:60_000] in compress(NOISE)
    assert NOISE[:60_000] not in compress(NOISE, "full")
    assert len(compress(TEXT)) < len(TEXT) / 3
    # Small writes tell nothing by themselves; they follow the last decision.
    assert len(compress(NOISE[:262_144] + NOISE[:262_144], step=20_000)) < 525_500


def test_short_content_is_checked_whole_and_written_at_once() -> None:
    dense = bytes(DICE.choices(range(200), k=20_000))  # could shrink by a twentieth
    for content, is_stored in ((dense, True), (TEXT[:20_000], False)):
        writes: list[bytes] = []
        writer = GzipWriter(lambda data, to=writes: to.append(bytes(data)))
        for at in range(0, len(content), 512):
            writer.write(content[at : at + 512])
        writer.close()
        assert len(writes) == 1
        assert (content in writes[0]) is is_stored
        assert gzip.decompress(writes[0]) == content


def test_several_members_are_one_content() -> None:
    stored = compress(TEXT) + gzip.compress(NOISE) + compress(b"", "none") + compress(b"end")
    assert inflate(stored) == TEXT + NOISE + b"end"


def test_optional_header_fields_are_understood() -> None:
    plain = gzip.compress(b"content", mtime=0)
    fields = b"\x03\x00abc" + b"name\0" + b"comment\0"
    header = plain[:3] + bytes([2 | 4 | 8 | 16]) + plain[4:10] + fields
    check = (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
    assert inflate(header + check + plain[10:]) == b"content"
    assert "gzip header whose checksum" in refusal(header + b"\0\0" + plain[10:])


@pytest.mark.parametrize("level", LEVELS)
def test_a_file_cut_anywhere_is_noticed(level: Level) -> None:
    stored = compress(TEXT[:2000] + NOISE[:1000], level)
    for cut in range(len(stored)):
        what = refusal(stored[:cut])
        assert "archive ended inside" in what or "archive is empty" in what


@pytest.mark.parametrize("level", LEVELS)
def test_a_bit_flipped_anywhere_is_noticed_or_harmless(level: Level) -> None:
    content = TEXT[:1500] + NOISE[:500]
    stored = compress(content, level)
    for at in range(len(stored)):
        for bit in range(0, 8, 3):
            flipped = bytearray(stored)
            flipped[at] ^= 1 << bit
            try:
                assert inflate(bytes(flipped)) == content
            except ArchiveCorrupt:
                continue
            # The header's time and name, unused bits of the last block; never the checksum.
            assert at < len(stored) - 8


@pytest.mark.fault(46)
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_random_damage_never_yields_other_content(data: st.DataObject) -> None:
    content = TEXT[:3000] + NOISE[:40_000] + TEXT[:3000]
    stored = bytearray(compress(content, data.draw(st.sampled_from(LEVELS)), 20_000))
    for _ in range(data.draw(st.integers(1, 3))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(stored)), st.integers(0, len(stored))))
    chunk = data.draw(st.integers(1, 70_000))
    with suppress(ArchiveCorrupt):
        assert inflate(bytes(stored[:cut]), chunk=chunk) == content


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=2000))
def test_noise_is_no_gzip(noise: bytes) -> None:
    refusal(b"\x1f\x8c" + noise)
    refusal(noise)


@pytest.mark.parametrize("tail", [b"\0", bytes(512), b"x", b"\x1f", compress(b"second")[:-1]])
def test_bytes_after_the_end_are_refused(tail: bytes) -> None:
    what = refusal(compress(TEXT) + tail)
    assert "bytes after its end" in what or "archive ended inside" in what


@pytest.mark.fault(91)
def test_a_bomb_is_stopped_at_the_limit() -> None:
    bomb = gzip.compress(bytes(100_000_000), 9)
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        assert "more content than the 1000000 bytes due" in refusal(bomb, 1_000_000)
        # What the chunks before the limit take, joined or not, and nothing like the rest.
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_the_limit_itself_is_allowed_and_one_byte_more_is_not() -> None:
    stored = compress(TEXT)
    assert inflate(stored, len(TEXT)) == TEXT
    assert "more content than" in refusal(stored, len(TEXT) - 1)
    assert "more content than the 0 bytes" in refusal(stored, 0)
    assert inflate(compress(b""), 0) == b""


@pytest.mark.fault(91)
def test_empty_members_without_end_are_refused() -> None:
    assert inflate(compress(b"") * MAX_EMPTY_MEMBERS) == b""
    assert "empty gzip members in a row" in refusal(compress(b"") * (MAX_EMPTY_MEMBERS + 1))


@pytest.mark.fault(91)
def test_a_header_without_end_is_refused() -> None:
    endless = bytes.fromhex("1f8b0808 00000000 00ff") + b"x" * 1_000_000
    assert "a gzip header longer than" in refusal(endless)


def test_a_wrong_length_is_noticed_though_the_checksum_fits() -> None:
    stored = compress(b"content")
    wrong = stored[:-4] + (8).to_bytes(4, "little")
    assert "7 bytes of content, not 8" in refusal(wrong)


def test_the_length_wraps_at_4_gib() -> None:
    stored = bytearray()
    writer = GzipWriter(stored.extend, level="none")
    writer.size_bytes = 2**32 - 1
    writer.write(b"ab")
    writer.close()
    assert stored[-4:] == (1).to_bytes(4, "little")
