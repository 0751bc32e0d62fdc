"""Shards whose reading brought their server down, remembered from run to run.

One object beside the backups, `.shardkeeper.crashes-ID.json`, ID being the server's number:

    {"version": 1, "shards": {"7": {"crashes": 2, "last": "2026-11-22T09:51:00Z"}}}

After the second time a shard is left alone for an hour, and four times as long after each time
that follows, a week at most. A shard that is read to its end is forgotten. After the object is
deleted, all shards are read again.

Held by tests/faults/test_crashing_shard.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

from msgspec import Struct

from resources.errors import BadReply, ManifestUnreadable, RepositoryError
from resources.model import ShardID
from resources.protocol.strict_json import Shape, decode_record
from resources.protocol.times import format_time, parse_time
from resources.repository.formats.names import parse_shard_id
from resources.repository.storage.record_file import RecordFile
from resources.repository.storage.store import Store

VERSION = 1
MAX_BYTES = 1 << 20
HOUR_NS = 3_600_000_000_000
LONGEST_NS = 7 * 24 * HOUR_NS
TIMES_LEFT = 2
GROWTH = 4


class Crash(Struct, frozen=True):
    """How often a server went down while a shard was read, and when the last time."""

    crashes: int
    last_ns: int

    @property
    def until_ns(self) -> int:
        """Until when the shard is left alone; 0: it is not."""
        if self.crashes < TIMES_LEFT:
            return 0
        steps = min(self.crashes - TIMES_LEFT, 10)
        return self.last_ns + min(HOUR_NS * GROWTH**steps, LONGEST_NS)


class CrashRecord:
    """The record of one source."""

    def __init__(self, store: Store, cluster_id: int) -> None:
        self.name = f".shardkeeper.crashes-{cluster_id}.json"
        self._file = RecordFile(store, self.name, max_bytes=MAX_BYTES)

    def read(self) -> dict[ShardID, Crash]:
        """What is known; nothing, if the record is damaged: it only spares servers."""
        try:
            raw = self._file.read()
            return {} if raw is None else _decode(raw, self.name)
        except (BadReply, ManifestUnreadable):
            return {}

    def write(self, known: Mapping[ShardID, Crash]) -> None:
        """Put it in the place of what is there; it is an aid, so nothing fails without it."""
        document = {
            str(i): {"crashes": c.crashes, "last": format_time(c.last_ns)} for i, c in known.items()
        }
        with suppress(RepositoryError):
            self._file.read()
            if known:
                self._file.put(json.dumps({"version": VERSION, "shards": document}).encode())
            else:
                self._file.remove()


class _CrashShape(Shape, frozen=True):
    crashes: int
    last: str


class _CrashesShape(Shape, frozen=True):
    version: int
    shards: dict[str, _CrashShape]


def _decode(raw: bytes, name: str) -> dict[ShardID, Crash]:
    found: dict[ShardID, Crash] = {}
    for key, value in decode_record(_CrashesShape, raw, name, version=VERSION).shards.items():
        shard_id, last_ns = parse_shard_id(key), parse_time(value.last, "last")
        if shard_id is not None and last_ns is not None:
            found[shard_id] = Crash(value.crashes, last_ns)
    return found
