"""The parsers of everything that comes from outside, each with a corpus and a check.

A target takes bytes. It returns when they were refused by an error of ours, or were accepted
and mean the same to another reader; anything else that it raises is a finding.
"""

from __future__ import annotations

import gzip
import io
import json
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from resources.errors import ArchiveCorrupt, BadReply, RepositoryError, ShardkeeperError, TSMError
from resources.protocol.meta import PortableData, decode_metastore, encode_metastore
from resources.protocol.snapshotter import shard_paths
from resources.protocol.tar import MemberData, MemberStart, TarWalker, member_place
from resources.repository.archives.gzip_stream import GzipReader, GzipWriter
from resources.repository.formats import self_checksum
from resources.repository.formats.manifest import Manifest
from resources.repository.formats.names import check_file_name, parse_file_name, parse_shard_id
from resources.tsm.check import check_tsm
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource
from resources.tsm.tombstone import parse_tombstones
from tests.resources.protocol.parsing import parse_all
from tests.resources.repository.manifests import ORIGINAL, OURS

FIXTURES = Path(__file__).parents[1] / "fixtures"
MAX_INFLATED = 1 << 20
CHECKSUM = slice(148, 156)


def read(*patterns: str) -> tuple[bytes, ...]:
    return tuple(
        path.read_bytes() for pattern in patterns for path in sorted(FIXTURES.glob(pattern))
    )


@dataclass(frozen=True)
class Target:
    """A parser, what to begin with, and how to make checksums fit after a change."""

    check: Callable[[bytes], None]
    corpus: Sequence[bytes]
    repair: Callable[[bytes, bytes], bytes] = lambda _seed, raw: raw


# --- tar ----------------------------------------------------------------------------------


def tar(raw: bytes) -> None:
    """What is accepted, Python's own reader reads as the same.

    It looks at owners and their numbers as well, and stops at the first odd one.
    """
    walker = TarWalker()
    found: list[tuple[str, bytearray]] = []
    try:
        for start in range(0, len(raw), 700):
            for piece in walker.feed(memoryview(raw)[start : start + 700]):
                if isinstance(piece, MemberStart):
                    found.append((piece.member.name, bytearray()))
                elif isinstance(piece, MemberData):
                    found[-1][1].extend(piece.data)
        walker.finish()
    except ArchiveCorrupt:
        return
    ours = [(name, bytes(data)) for name, data in found]
    with (
        suppress(tarfile.ReadError),
        tarfile.open(fileobj=io.BytesIO(raw), mode="r:", errors="surrogateescape") as other,
    ):
        theirs = [(info.name, _content(other, info)) for info in other]
        assert theirs == ours[: len(theirs)]


def _content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    opened = archive.extractfile(info)
    assert opened is not None
    return opened.read()


def right_headers(seed: bytes, raw: bytes) -> bytes:
    """The checksums of the headers where the seed had some."""
    fixed = bytearray(raw)
    for at in range(0, len(raw) - 511, 512):
        if seed[at + 257 : at + 262] == b"ustar":
            header = bytearray(fixed[at : at + 512])
            header[CHECKSUM] = b" " * 8
            fixed[at : at + 512] = header
            fixed[at + 148 : at + 156] = b"%06o\0 " % sum(header)
    return bytes(fixed)


def extended(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo(name)
        info.size = 5
        archive.addfile(info, io.BytesIO(b"hello"))
    return buffer.getvalue()[: 4 * 512] + bytes(1024)


# --- gzip ---------------------------------------------------------------------------------


def gzip_(raw: bytes) -> None:
    """What is accepted, Python's own reader inflates to the same."""
    source = io.BytesIO(raw)
    found = bytearray()
    try:
        for chunk in GzipReader(source.read, max_bytes=MAX_INFLATED).read_chunks():
            found += chunk
            assert len(found) <= MAX_INFLATED
    except ArchiveCorrupt:
        return
    assert gzip.decompress(raw) == found


def right_trailer(_seed: bytes, raw: bytes) -> bytes:
    """The checksum and the length of the first member, if it can be inflated."""
    inflate = zlib.decompressobj(wbits=-15)
    with suppress(zlib.error):
        content = inflate.decompress(raw[10:], MAX_INFLATED)
        if inflate.eof:
            end = len(raw) - len(inflate.unused_data)
            trailer = zlib.crc32(content).to_bytes(4, "little")
            return raw[:end] + trailer + len(content).to_bytes(4, "little")
    return raw


def gzipped(content: bytes) -> Iterator[bytes]:
    yield gzip.compress(content)
    yield gzip.compress(content[:100]) + gzip.compress(content[100:])
    for level in ("default", "none"):
        out = bytearray()
        writer = GzipWriter(out.extend, level=level, filename="x.tar")
        writer.write(content)
        writer.close()
        yield bytes(out)


# --- manifest -----------------------------------------------------------------------------


def manifest(raw: bytes) -> None:
    """What is accepted says the same when it is written and read again."""
    try:
        found = Manifest.decode(raw, "20261122T095100Z.manifest")
    except RepositoryError:
        return
    for entry in found.files:
        assert posixpath.basename(entry.file_name) == entry.file_name
    assert Manifest.decode(found.encode(), "again").files == found.files


def correct_checksum(_seed: bytes, raw: bytes) -> bytes:
    try:
        document = json.loads(raw)
        document["shardkeeper"][self_checksum.KEY] = self_checksum.BLANK
        return self_checksum.encode_with_checksum(document)
    except (ValueError, TypeError, KeyError, RecursionError):
        return raw


# --- meta ---------------------------------------------------------------------------------


def meta(raw: bytes) -> None:
    """What is accepted says the same when it is written and read again."""
    for data in (raw, *_inside(raw)):
        try:
            found = decode_metastore(data)
        except BadReply:
            continue
        assert decode_metastore(encode_metastore(found)) == found


def _inside(raw: bytes) -> Iterator[bytes]:
    with suppress(BadReply):
        yield PortableData.decode(raw).meta


# --- TSM ----------------------------------------------------------------------------------


def tsm(raw: bytes) -> None:
    """What is accepted can be read to its last point, and has as many as were counted."""
    try:
        facts = check_tsm(BytesSource(raw))
    except TSMError:
        return
    opened = TSMFile(BytesSource(raw))
    keys = n = 0
    for key in list(opened.keys()):
        keys += 1
        try:
            times, _ = opened.read(key)
        except TSMError:
            return  # counting does not decode every value
        n += len(times)
    assert keys == facts.keys
    assert facts.points is not None
    assert n <= facts.points


def right_blocks(seed: bytes, raw: bytes) -> bytes:
    """The CRCs of the blocks where the seed had some."""
    fixed = bytearray(raw)
    opened = TSMFile(BytesSource(seed))
    for key in opened.index():
        for entry in key.entries:
            block = fixed[entry.offset + 4 : entry.offset + entry.size]
            fixed[entry.offset : entry.offset + 4] = zlib.crc32(block).to_bytes(4, "big")
    return bytes(fixed)


def tombstone(raw: bytes) -> None:
    try:
        for record in parse_tombstones(raw):
            assert record.key is not None
    except TSMError:
        return


# --- names --------------------------------------------------------------------------------


def names(raw: bytes) -> None:
    """A name that is accepted is one component right inside its place."""
    for text in (raw.decode("utf-8", "replace"), raw.decode("utf-8", "surrogateescape")):
        with suppress(ShardkeeperError):
            name = check_file_name(text)
            assert posixpath.normpath(f"/store/{name}") == f"/store/{name}"
            assert name not in (".", "..")
        found = parse_file_name(text)
        if found is not None and found.kind == "shard":
            assert text.startswith(str(found.backup))
        digits = parse_shard_id(text) if text else None
        assert digits is None or str(digits) == text
        with suppress(ShardkeeperError):
            place = member_place(text)
            assert place.path == text
            inside = posixpath.normpath(posixpath.join("/shard", text))
            assert inside == f"/shard/{text}"
    with suppress(ShardkeeperError):
        for path in parse_all(shard_paths, raw, step=7).paths:
            assert posixpath.normpath(f"/data/{path}") == f"/data/{path}"


TARS = (*read("wire/*.tar"), extended("d\u00e4b/rp/1/000000001-000000001.tsm"))

TARGETS: dict[str, Target] = {
    "tar": Target(tar, TARS, right_headers),
    "gzip": Target(gzip_, tuple(x for one in TARS for x in gzipped(one)), right_trailer),
    "manifest": Target(manifest, (ORIGINAL, OURS.encode()), correct_checksum),
    "meta": Target(
        meta,
        (*(r[16:] for r in read("wire/metastore")), PortableData(b"\x08\x01\x10\x02", 3).encode()),
    ),
    "tsm": Target(tsm, read("tsm/small.tsm", "tsm/far_apart.tsm", "tsm/deleted.tsm"), right_blocks),
    "tombstone": Target(tombstone, read("tsm/*.tombstone")),
    "names": Target(
        names,
        (
            b"20261122T095100Z.s7.tar.gz",
            b"telegraf/autogen/7/000000001-000000001.tsm",
            b'{"Paths":["db/rp/7","db/rp/8"]}\n',
            *read("wire/paths-*"),
        ),
    ),
}
