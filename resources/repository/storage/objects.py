"""Objects of a bucket while they are written and read.

What is short is one conditional put. An archive is sent in parts while it is written; a store does
not ask whether its name is free, so only archives are, whose names no other run uses.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from resources.errors import NameTaken, StoreFailed
from resources.repository.formats.names import parse_file_name
from resources.repository.storage.bucket import (
    CHUNK_BYTES,
    MAX_PARTS,
    PART_BYTES,
    Bucket,
    Stored,
)
from resources.repository.storage.directory import BytesLike

if TYPE_CHECKING:
    from obstore import WritableFile

MAX_SINGLE_BYTES = PART_BYTES
"""Of an archive that is one put, and is held in memory until then."""
MAX_RECORD_BYTES = 300 << 20
"""Of any other object; a manifest and a journal have 256 MiB at most."""
AHEAD = 2
"""Chunks that are read before they are asked for."""


class ObjectSink:
    """A Sink over one object; it is stored by `finish`."""

    def __init__(self, bucket: Bucket, name: str, stack: ExitStack) -> None:
        self.size_bytes = 0
        self._bucket = bucket
        self._name = name
        self._stack = stack
        self._short: bytearray | None = bytearray()
        self._writer: WritableFile | None = None
        found = parse_file_name(name)
        self._in_parts = found is not None and found.kind == "shard"
        self._limit = MAX_SINGLE_BYTES if self._in_parts else MAX_RECORD_BYTES
        self._digests = bytearray()
        self._part = hashlib.md5(usedforsecurity=False)
        self._part_bytes = 0

    def write(self, data: BytesLike, /) -> None:
        self.size_bytes += len(data)
        if self._short is not None:
            self._short += data
            if len(self._short) <= self._limit:
                return
            if not self._in_parts:
                raise StoreFailed(
                    f"{self._bucket.url}: {self._name} has more than {self._limit} bytes",
                    hint="only archives may be so long",
                )
            data, self._short = self._short, None
        self._send(data)

    def finish(self) -> None:
        """Have the object stored, and compare what the store says of it.

        Raises:
            NameTaken: the name is in use.
            StoreFailed: it is not stored, or not as it was sent.
        """
        if self._short is None:
            self._stack.close()
            self._check()
            return
        if not self._short:
            raise StoreFailed(
                f"{self._bucket.url}: {self._name} would have no bytes",
                hint="an object without bytes counts as none there",
            )
        put_new(self._bucket, self._name, bytes(self._short))

    def _open(self) -> WritableFile:
        if self._writer is None:
            if self._bucket.stat(self._name) is not None:
                raise taken(self._bucket, self._name)
            mark = os.urandom(8).hex()
            self._writer = self._stack.enter_context(self._bucket.sending(self._name, mark))
        return self._writer

    def _send(self, data: BytesLike) -> None:
        if self.size_bytes > MAX_PARTS * PART_BYTES:
            raise StoreFailed(
                f"{self._bucket.url}: {self._name} has more than {MAX_PARTS * PART_BYTES} bytes",
                hint="back this database up into a directory",
            )
        self._digest(memoryview(data))
        with self._bucket.explaining(f"writing {self._name}"):
            self._open().write(data)

    def _digest(self, data: memoryview) -> None:
        """The checksum that S3 and what speaks it compute: of the parts' checksums."""
        while data:
            piece = data[: PART_BYTES - self._part_bytes]
            self._part.update(piece)
            self._part_bytes += len(piece)
            data = data[len(piece) :]
            if self._part_bytes == PART_BYTES:
                self._end_part()

    def _end_part(self) -> None:
        self._digests += self._part.digest()
        self._part, self._part_bytes = hashlib.md5(usedforsecurity=False), 0

    def _check(self) -> None:
        if self._part_bytes:
            self._end_part()
        stored = self._bucket.stat(self._name)
        count = len(self._digests) // 16
        tag = f"{hashlib.md5(self._digests, usedforsecurity=False).hexdigest()}-{count}"
        if stored is None or stored.size_bytes != self.size_bytes:
            there = "nothing" if stored is None else f"{stored.size_bytes} bytes"
            raise StoreFailed(
                f"{self._bucket.url}: {self.size_bytes} bytes of {self._name} were sent, and "
                f"{there} is there"
            )
        if self._bucket.tags_are_md5 and not stored.at.has_md5(tag):
            raise StoreFailed(
                f"{self._bucket.url}: the store's checksum of {self._name} is not that of what "
                "was sent",
                hint="something between here and the store changes data; run it again",
            )


@contextmanager
def creating(bucket: Bucket, name: str) -> Generator[ObjectSink]:
    """A new object, which exists once the block succeeds."""
    with ExitStack() as stack:
        sink = ObjectSink(bucket, name, stack)
        yield sink
        sink.finish()


def put_new(bucket: Bucket, name: str, raw: bytes) -> None:
    """Store a short object.

    Raises:
        NameTaken: the name is in use; an object without bytes does not use it.
    """
    while bucket.put_new(name, raw) is None:
        there = bucket.stat(name)
        if there is None:
            continue  # it went just now
        if there.size_bytes or bucket.put_over(name, raw, there.at) is None:
            raise taken(bucket, name)
        return


def taken(bucket: Bucket, name: str) -> NameTaken:
    return NameTaken(
        f"{bucket.url}: {name} exists already", hint="nothing was overwritten; run it again"
    )


class ObjectSource:
    """A Source over one object, which is asked for chunk by chunk.

    Some chunks are asked for ahead of the reader, from its second one on.
    """

    def __init__(self, bucket: Bucket, stored: Stored, first: bytes, stack: ExitStack) -> None:
        self.size_bytes = stored.size_bytes
        self.at = stored.at
        self._bucket = bucket
        self._stored = stored
        self._stack = stack
        self._chunk = memoryview(first)
        self._next = len(first)
        self._threads: ThreadPoolExecutor | None = None
        self._coming: list[Future[bytes]] = []

    def read(self, n: int, /) -> bytes:
        if n <= len(self._chunk) or not self._fill():
            data = bytes(self._chunk[:n])
            self._chunk = self._chunk[n:]
            return data
        buffer = bytearray(min(n, self._left()))
        return bytes(memoryview(buffer)[: self.readinto(buffer)])

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        view, filled = memoryview(buffer), 0
        while filled < len(view) and self._fill():
            piece = self._chunk[: len(view) - filled]
            view[filled : filled + len(piece)] = piece
            self._chunk = self._chunk[len(piece) :]
            filled += len(piece)
        return filled

    def _left(self) -> int:
        coming = CHUNK_BYTES * len(self._coming)
        return len(self._chunk) + coming + self.size_bytes - min(self._next, self.size_bytes)

    def _fill(self) -> bool:
        """Have bytes at hand; False: the object ends here."""
        if self._chunk:
            return True
        if not self._coming:
            if self._next >= self.size_bytes:
                return False
            self._ask()
        self._chunk = memoryview(self._coming.pop(0).result())
        while len(self._coming) < AHEAD and self._next < self.size_bytes:
            self._ask()
        return True

    def _ask(self) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(AHEAD, thread_name_prefix="shardkeeper-ahead")
            self._stack.callback(self._threads.shutdown, wait=False, cancel_futures=True)
        self._coming.append(self._threads.submit(self._bucket.chunk, self._stored, self._next))
        self._next += CHUNK_BYTES


@contextmanager
def opening(bucket: Bucket, name: str) -> Generator[tuple[ObjectSource, bytes]]:
    """A Source of an object, and its first chunk.

    Raises:
        NameMissing: there is none, or one without bytes.
    """
    found = bucket.first_chunk(name)
    if found is None or not found[0].size_bytes:
        raise bucket.missing(name)
    with ExitStack() as stack:
        yield ObjectSource(bucket, *found, stack), found[1]
