"""A shard's bytes without a server: tars as servers send them, and sources that send them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from resources.clients.backup_directories import Leftovers
from resources.clients.snapshotter import ShardStream
from resources.clients.source import SourceFacts
from resources.errors import ShardkeeperError
from resources.model import ShardID
from resources.protocol.tar import END_MARKER, encode_header, padding


class Sent:
    """A stream that gives its bytes, as many at once as fit."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def recv_into(self, buffer: memoryview) -> int:
        n = min(len(buffer), len(self._data))
        buffer[:n], self._data = self._data[:n], self._data[n:]
        return n


def tar(files: Mapping[str, bytes], shard: str = "db/autogen/1") -> bytes:
    members = (
        encode_header(f"{shard}/{name}", len(data), 1000) + data + padding(len(data))
        for name, data in files.items()
    )
    return b"".join(members) + END_MARKER


class Asked(NamedTuple):
    """A request for a shard."""

    shard_id: ShardID
    node: str
    since_ns: int | None


class SendingSource:
    """A source that answers requests for shards by these bytes, or by an error.

    Attributes:
        later: its facts, as it reports them when it is asked again.
    """

    def __init__(self, reply: bytes | ShardkeeperError, later: SourceFacts | None = None) -> None:
        self.asked: list[Asked] = []
        self.leftovers = Leftovers()
        self.later = later or SourceFacts()
        self._reply = reply

    def facts(self) -> tuple[SourceFacts, None]:
        return self.later, None

    def abort(self) -> None:
        """No request waits here."""

    def resume(self) -> None:
        """As `abort`."""

    @contextmanager
    def open_shard(
        self, shard_id: ShardID, *, node: str, since_ns: int | None = None
    ) -> Generator[ShardStream]:
        self.asked.append(Asked(shard_id, node, since_ns))
        if isinstance(self._reply, ShardkeeperError):
            raise self._reply
        yield Sent(self._reply)  # type: ignore[misc]
