"""Download one shard from a node into its archive, with every check of the bytes."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from msgspec import Struct

from resources.clients.source import BackupSource
from resources.engine.options import BackupOptions
from resources.errors import Stopped
from resources.model import ShardLocation, ShardPlace
from resources.repository.archives.archive import ArchiveWriter, StoredArchive
from resources.repository.batches import ClaimedBatch
from resources.runtime.failpoints import passing
from resources.tsm.source import Scratch

BUFFER_BYTES = 256 << 10


class Download(Struct, frozen=True):
    """A shard that was read to its end."""

    stored: StoredArchive
    modified_s: Mapping[str, int]
    """By file, when the server last wrote to it, to the second."""
    buffer: memoryview
    """The thread's buffer, free for another read."""


class ShardDownloader:
    """Downloads shards; one instance serves all threads of a batch.

    Args:
        claimed: where the archives go.
        scratch_dir: where a file is checked that does not fit into memory.
        stop: ends downloads.

    Attributes:
        bytes_done: of tar streams, those that failed too.
    """

    def __init__(
        self,
        source: BackupSource,
        claimed: ClaimedBatch,
        options: BackupOptions,
        scratch_dir: str | None,
        stop: threading.Event,
    ) -> None:
        self._source = source
        self._batch = claimed
        self._options = options
        self._scratch_dir = scratch_dir
        self._stop = stop
        self._threads = threading.local()
        self._scratches: list[Scratch] = []
        self._lock = threading.Lock()
        self.bytes_done = 0

    @contextmanager
    def archive(self, place: ShardPlace, node: str) -> Generator[Download]:
        """Read a shard from a node into an empty file, which is kept if the block succeeds.

        Raises:
            ArchiveCorrupt, UnsafeName, TSMError: what came is cut, damaged or of another shard.
            Stopped: `stop` was set.
            RepositoryError: the archive cannot be written.
            WireError: the node does not answer, or broke off.
        """
        buffer, scratch = self._own()
        with (
            self._source.open_shard(place.shard_id, node=node) as stream,
            self._batch.shard(place.shard_id) as sink,
        ):
            passing("backup.connected")
            archive = ArchiveWriter(
                sink,
                inner_name=self._batch.shard_file(place.shard_id).removesuffix(".gz"),
                place=ShardLocation(place.database, place.policy, place.shard_id),
                level=self._options.level,
                checked=self._options.checked,
                proven=self._options.proven,
                scratch=scratch,
                keep_damaged=self._options.damaged != "refuse",
            )
            while n := stream.recv_into(buffer):
                archive.feed(buffer[:n])
                self.bytes_done += n
                passing("backup.mid-stream")
                if self._stop.is_set():
                    raise Stopped("stopped before the backup was complete")
            yield Download(archive.finish(), archive.modified_s(), buffer)

    def close(self) -> None:
        for scratch in self._scratches:
            scratch.close()

    def _own(self) -> tuple[memoryview, Scratch]:
        """This thread's buffer and scratch space."""
        mine: tuple[memoryview, Scratch] | None = getattr(self._threads, "mine", None)
        if mine is None:
            mine = memoryview(bytearray(BUFFER_BYTES)), Scratch(self._scratch_dir)
            self._threads.mine = mine
            with self._lock:
                self._scratches.append(mine[1])
        return mine
