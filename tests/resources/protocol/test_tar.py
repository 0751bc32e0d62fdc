"""The walker takes whole archives and nothing else."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import ArchiveCorrupt
from resources.protocol import tar
from resources.protocol.tar import (
    BLOCK,
    END_MARKER,
    Member,
    MemberData,
    MemberEnd,
    MemberStart,
    TarWalker,
    encode_header,
    padding,
)

FIRST = "db/autogen/1/000000001-000000001.tsm"
SECOND = "db/autogen/1/000000002-000000001.tsm"
THIRD = "db/autogen/1/000000003-000000001.tsm"
CONTENT = {FIRST: b"first" * 300, SECOND: b"", THIRD: bytes(range(256)) * 4}


def archive(content: dict[str, bytes], end: bytes = END_MARKER) -> bytes:
    members = (
        encode_header(name, len(data), 1_480_000_000) + data + padding(len(data))
        for name, data in content.items()
    )
    return b"".join(members) + end


def walk(stream: bytes, step: int = 1 << 18) -> tuple[TarWalker, dict[str, bytes]]:
    """Feed everything; return the walker and each finished member's bytes."""
    walker = TarWalker()
    view = memoryview(stream)
    arriving = bytearray()
    found: dict[str, bytes] = {}
    for at in range(0, len(view), step):
        for piece in walker.feed(view[at : at + step]):
            match piece:
                case MemberStart():
                    arriving.clear()
                case MemberData(data):
                    arriving += data
                case MemberEnd(member):
                    assert len(arriving) == member.size
                    found[member.name] = bytes(arriving)
    walker.finish()
    return walker, found


def refusal(stream: bytes, step: int = 1 << 18) -> str:
    with pytest.raises(ArchiveCorrupt) as caught:
        walk(stream, step)
    return caught.value.what


def patched(header: bytes, at: int, field: bytes) -> bytes:
    """A header with another field and a checksum that fits again."""
    block = bytearray(header)
    block[at : at + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("step", [1, 7, 511, 512, 513, 1000, 1 << 18])
def test_pieces_do_not_depend_on_how_the_stream_arrives(step: int) -> None:
    walker, found = walk(archive(CONTENT), step)
    assert found == CONTENT
    assert [member.name for member in walker.members] == list(CONTENT)
    assert walker.members[0] == Member(FIRST, 1500, 1_480_000_000, 0)
    assert walker.members[1].offset == BLOCK + 1536
    assert walker.offset == len(archive(CONTENT))
    assert walker.end_padding == 0


def test_data_is_not_copied() -> None:
    stream = bytearray(archive({FIRST: b"old"}))
    pieces = list(TarWalker().feed(memoryview(stream)))
    stream[BLOCK : BLOCK + 3] = b"new"
    assert [piece.data.tobytes() for piece in pieces if isinstance(piece, MemberData)] == [b"new"]


@pytest.mark.fault(1, 2, 3)
def test_an_archive_cut_anywhere_is_noticed() -> None:
    stream = archive(CONTENT)
    for cut in range(len(stream)):
        what = refusal(stream[:cut])
        assert "archive ended" in what or "archive is empty" in what


def test_tarfile_would_not_have_noticed() -> None:
    stream = archive(CONTENT)[: BLOCK + 1536]
    with tarfile.open(fileobj=io.BytesIO(stream)) as lenient:
        assert lenient.getnames() == [FIRST]
    assert refusal(stream) == (
        "archive ended between members, without its end marker, at byte 2048"
    )


@pytest.mark.parametrize(
    ("cut", "reply"),
    [
        (0, "archive is empty: 0 bytes, not even an end marker"),
        (100, "archive ended inside a header: 100 of 512 bytes, at byte 100"),
        (1024, "archive ended inside 000000001-000000001.tsm: 512 of 1500 bytes, at byte 1024"),
        (2012, "archive ended inside the padding after 000000001-000000001.tsm, at byte 2012"),
        (4608, "archive ended inside its end marker: 512 of 1024 bytes, at byte 4608"),
    ],
)
def test_the_message_says_where_it_was_cut(cut: int, reply: str) -> None:
    assert refusal(archive(CONTENT)[:cut]) == reply


@pytest.mark.fault(11)
def test_a_bit_flipped_in_a_header_or_in_padding_is_noticed() -> None:
    stream = archive(CONTENT)
    harmless = {148 + start for start in (0, 2048, 2048 + BLOCK)}
    for at in (*range(BLOCK), *range(BLOCK + 1500, 2048 + 2 * BLOCK), *range(4096, len(stream))):
        if at in harmless:
            continue  # the checksum's leading zero becomes a blank: the same number
        flipped = bytearray(stream)
        flipped[at] ^= 1 << at % 8
        refusal(bytes(flipped))


@pytest.mark.fault(5)
def test_two_archives_glued_together_are_refused() -> None:
    assert "bytes after its end marker, at byte" in refusal(archive(CONTENT) * 2)
    assert "bytes after its end marker" in refusal(archive(CONTENT) + b"\1")


@pytest.mark.fault(4, 5)
def test_half_an_archive_and_a_whole_one_are_refused() -> None:
    whole = archive(CONTENT)
    assert "second member named" in refusal(whole[:2048] + whole)
    refusal(whole[:1300] + whole)


def test_tar_1_may_pad_with_zeros_and_we_can_report() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as foreign:
        info = tarfile.TarInfo(FIRST)
        info.size = 3
        foreign.addfile(info, io.BytesIO(b"abc"))
    walker, found = walk(buffer.getvalue())
    assert found == {FIRST: b"abc"}
    assert walker.end_padding == 10_240 - 4 * BLOCK


def test_zeros_without_end_are_refused() -> None:
    assert "10240 zeros or more after its end marker" in refusal(END_MARKER + bytes(10_240))
    assert "inside the zeros" in refusal(END_MARKER + bytes(100))


@pytest.mark.fault(3)
def test_one_zero_block_between_members_is_refused() -> None:
    stream = archive({FIRST: b"x"}, end=bytes(BLOCK)) + archive({SECOND: b"y"})
    assert "one zero block where the end marker has two" in refusal(stream)


def test_an_empty_archive_is_an_archive() -> None:
    walker, found = walk(END_MARKER)
    assert found == {}
    assert walker.members == []


@pytest.mark.fault(85)
@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.CHRTYPE, "a character device"),
        (tarfile.BLKTYPE, "a block device"),
        (tarfile.DIRTYPE, "a directory"),
        (tarfile.FIFOTYPE, "a FIFO"),
        (tarfile.CONTTYPE, "a contiguous file"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (tarfile.GNUTYPE_LONGLINK, "a GNU long link"),
        (tarfile.XGLTYPE, "a global PAX header"),
        (b"\x9b", "a member of the unknown type '\\x9b'"),
    ],
)
def test_only_regular_files_are_accepted(kind: bytes, reply: str) -> None:
    header = patched(encode_header(FIRST, 0, 0), 156, kind)
    assert refusal(header + END_MARKER).startswith(f"archive has {reply}, '{FIRST}'; only regular")


@pytest.mark.fault(85)
@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1755])
def test_setuid_bits_are_refused(mode: int) -> None:
    header = patched(encode_header(FIRST, 0, 0), 100, b"%07o\0" % mode)
    assert "a setuid, setgid or sticky bit" in refusal(header + END_MARKER)


@pytest.mark.fault(90)
@pytest.mark.parametrize(
    ("field", "reply"),
    [
        (b"\xff" * 12, "the size -1"),
        (b"\x80" + b"\0" * 2 + b"\x7f" + b"\xff" * 8, "more than 68719476736"),
        (b"77777777777\0", None),
        (b"00000000-01\0", "the size"),
        (b"0000000_001\0", "the size"),
        (b"00000000008\0", "the size"),
        (b"0o000000001\0", "the size"),
        (b"\0" + b"0" * 8 + b"271", "the size"),  # 185 to Go's reader and 0 to Python's
    ],
)
def test_declared_sizes_meet_a_limit_before_anything_else(field: bytes, reply: str | None) -> None:
    header = patched(encode_header(FIRST, 0, 0), 124, field)
    assert (reply or "archive ended inside") in refusal(header + END_MARKER)


def test_a_size_in_base_256_is_understood() -> None:
    header = patched(encode_header(FIRST, 0, 0), 124, b"\x80" + (5).to_bytes(11, "big"))
    _, found = walk(header + b"hello" + padding(5) + END_MARKER)
    assert found == {FIRST: b"hello"}


def test_a_time_before_1970_is_understood() -> None:
    header = patched(encode_header(FIRST, 0, 0), 136, (-5).to_bytes(12, "big", signed=True))
    walker, _ = walk(header + END_MARKER)
    assert walker.members[0].mtime_s == -5
    far = (2**90).to_bytes(12, "big")
    header = patched(encode_header(FIRST, 0, 0), 136, bytes([far[0] | 0x80]) + far[1:])
    assert "modification time" in refusal(header + END_MARKER)


@pytest.mark.fault(92)
def test_members_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_MEMBERS", 2)
    assert "more than 2 members" in refusal(archive(CONTENT))


# --- extended headers ---------------------------------------------------------------------------


def extension(kind: bytes, payload: bytes) -> bytes:
    header = patched(encode_header("x", len(payload), 0), 156, kind)
    return header + payload + padding(len(payload))


def pax(*records: tuple[str, str]) -> bytes:
    encoded = b""
    for key, value in records:
        body = f" {key}={value}\n".encode()
        length = next(n for n in range(len(body), len(body) + 9) if len(str(n)) + len(body) == n)
        encoded += str(length).encode() + body
    return extension(b"x", encoded)


MEMBER = encode_header(SECOND, 3, 0) + b"abc" + padding(3)


@pytest.mark.parametrize("step", [1, 100, 512, 1 << 18])
@pytest.mark.parametrize(
    "before", [pax(("mtime", "1.5"), ("path", FIRST)), extension(b"L", FIRST.encode() + b"\0")]
)
def test_an_extended_header_names_the_next_member_only(before: bytes, step: int) -> None:
    cut_off = encode_header(SECOND[:-5], 3, 0) + b"abc" + padding(3)
    _, found = walk(before + cut_off + MEMBER + END_MARKER, step)
    assert found == {FIRST: b"abc", SECOND: b"abc"}


def test_a_pax_size_overrides_the_header() -> None:
    header = encode_header(FIRST, 0, 0)
    _, found = walk(pax(("size", "3")) + header + b"abc" + padding(3) + END_MARKER)
    assert found == {FIRST: b"abc"}


@pytest.mark.parametrize("cut", range(0, 2 * BLOCK + 1, 64))
def test_a_cut_after_an_extended_header_is_noticed(cut: int) -> None:
    assert "archive" in refusal((pax(("path", FIRST)) + MEMBER)[:cut])


@pytest.mark.fault(84)
@pytest.mark.parametrize(
    ("stream", "reply"),
    [
        (pax(("path", FIRST)) + pax(("path", SECOND)) + MEMBER, "two extended headers"),
        (pax(("path", FIRST)) + END_MARKER, "an extended header without its member"),
        (pax(("path", "")) + MEMBER, "a member named ''"),
        (pax(("path", FIRST)) + MEMBER, "-000000001.tsm' and '00000000"),
        (pax(("path", "a\0b")) + MEMBER, "a member named 'a\\x00b'"),
        (pax(("path", "a" * 1025)) + MEMBER, "a name of 1025 bytes"),
        (pax(("path", "a"), ("path", "b")) + MEMBER, "two records b'path'"),
        (pax(("size", "-1")) + MEMBER, "the size b'-1'"),
        (pax(("size", "9" * 21)) + MEMBER, "the size"),
        (pax(("size", str(2**63))) + MEMBER, "more than 68719476736"),
        (pax(("GNU.sparse.major", "1")) + MEMBER, "a sparse file"),
        (extension(b"x", b"nonsense") + MEMBER, "records cannot be read"),
        (extension(b"x", b"99 path=a\n") + MEMBER, "records cannot be read"),
        (extension(b"x", b"0 path=a\n") + MEMBER, "records cannot be read"),
        (extension(b"x", b"10 path=\xff\n") + MEMBER, "is not UTF-8"),
        (extension(b"x", b"") + MEMBER, "an extended header of 0 bytes"),
        (extension(b"x", bytes(64 * 1024 + 1)) + MEMBER, "an extended header of 65537 bytes"),
        (extension(b"L", b"\xff\xfe") + MEMBER, "is not UTF-8"),
    ],
)
def test_hostile_extended_headers_are_refused(stream: bytes, reply: str) -> None:
    assert reply in refusal(stream + END_MARKER)


# --- random damage --------------------------------------------------------------------------------


@pytest.mark.fault(84)
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_arrives_only_archive_corrupt_escapes(data: st.DataObject) -> None:
    stream = bytearray(pax(("path", THIRD)) + MEMBER + archive(CONTENT))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(stream) - 1))
        stream[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(stream)))
    step = data.draw(st.integers(1, 5000))
    try:
        walk(bytes(stream[:cut]), step)
    except ArchiveCorrupt:
        return
    assert cut == len(stream)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=3000))
def test_noise_is_no_archive(noise: bytes) -> None:
    with pytest.raises(ArchiveCorrupt):
        walk(noise + b"\1")


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(
            st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1
        ).filter(lambda name: len(name.encode()) <= tar.BLOCK and not name.endswith("/")),
        st.binary(max_size=1500),
        max_size=4,
    )
)
def test_what_we_write_every_reader_reads_the_same(content: dict[str, bytes]) -> None:
    stream = archive(content)
    _, found = walk(stream)
    assert found == content
    with tarfile.open(fileobj=io.BytesIO(stream)) as lenient:
        assert [member.name for member in lenient.getmembers()] == list(content)


def test_gnu_tar_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    path.write_bytes(archive(CONTENT))
    done = subprocess.run(["tar", "-tf", path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(CONTENT)
    assert done.stderr == ""
